#!/bin/sh
# State of a PBS job, in the words Snakemake expects. A job that PBS no longer knows has failed.
state=$(qstat -x -f "$1" 2>/dev/null) || { echo failed; exit 0; }
case "$state" in
    *"job_state = F"*) case "$state" in *"Exit_status = 0"*) echo success ;; *) echo failed ;; esac ;;
    *) echo running ;;
esac
