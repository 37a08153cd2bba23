"""What training reads: the pairs table and the paired dataset over shards."""
