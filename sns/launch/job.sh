#!/bin/bash
# One run of a sweep. Array task N trains line N + 1 of the file of tasks; hydra/launcher=slurm fills in the settings.
# The run is a step of its own, so that this shell outlives it. If the run ends early (the warning before the time
# limit, preemption, a kill, the memory limit), this shell puts the job back into the queue.
asked='' late='' child=''
trap 'asked=1; [[ -n $child ]] && kill -USR2 "$child" 2>/dev/null' USR2 TERM   # srun passes USR2 on; TERM would end the step
trap 'late=1' ALRM

# settings

id=$SLURM_JOB_ID
export PYTHONUNBUFFERED=1 SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} SNS_LAUNCHER=slurm
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}

requeue() { # why
    local state; state=$(squeue -h -j "$id" -o %T 2>/dev/null)
    if [[ -n $state && $state != RUNNING ]]; then
        echo "job $id is $state: left to Slurm ($1)"   # cancelled, or requeued already
        exit 75
    fi
    echo "job $id goes back into the queue ($1)"
    trap '' USR2 TERM   # Slurm now ends this shell
    scontrol requeue "$id" || { echo "this Slurm does not requeue: launch the sweep again"; exit 75; }
    sleep 60
    exit 75
}

line=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$tasks")
eval "words=(${line#* })"   # quoted by the launcher
[[ -z $asked ]] || requeue 'asked to stop before the run started'
srun --ntasks=1 "${words[@]}" &
child=$!
[[ -z $asked ]] || kill -USR2 "$child"   # it came while the step was being started
timer=''
while :; do
    wait "$child"; code=$?
    if [[ -n $asked && -z $timer ]]; then (sleep "$patience"; kill -ALRM $$) & timer=$!; fi
    [[ -z $late ]] || requeue 'it did not save in time'
    kill -0 "$child" 2>/dev/null || break
done
[[ -z $timer ]] || kill "$timer" 2>/dev/null
case $code in
    0 | 1) exit "$code" ;;   # finished, or an error that another attempt would meet again
    *) requeue "the run ended with code $code" ;;
esac
