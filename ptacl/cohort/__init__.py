"""Who takes part: subjects and their files, phenotype tables, withdrawals, splits and shards."""
