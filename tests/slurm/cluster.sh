#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A Slurm of its own on this machine, for scripts that source this file: munged, slurmctld and a slurmd for each of some
# virtual nodes, in a folder and on ports of their own, so that a Slurm that is there already is not met. Needs no
# service manager and no root (as another user, jobs run as that user). Everything it starts ends with stop_cluster.

cluster_packages=(munge slurm-client slurmctld slurmd slurm-wlm-basic-plugins)
cluster_daemons=()  # process ids, first to be ended first
cluster=            # the folder

# The packages whose programs are not here, one a line.
missing_cluster_packages() {
  local i programs=(munged sbatch slurmctld slurmd)
  for i in "${!programs[@]}"; do
    command -v "${programs[i]}" >/dev/null || echo "${cluster_packages[i]}"
  done
}

# A port with count - 1 free ones after it.
free_ports() {
  local count=$1 base port attempt
  for ((attempt = 0; attempt < 50; ++attempt)); do
    base=$((20000 + RANDOM % 10000))
    for ((port = base; port < base + count; ++port)); do
      ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue 2
    done
    echo "$base"
    return 0
  done
  return 1
}

# The first node carries the machine's name: mpirun in a batch script there starts its ranks without a detour.
node_name() { if [ "$1" -eq 1 ]; then uname -n | cut -d . -f 1; else echo "caravan$1"; fi; }

write_configuration() {
  local nodes=$1 cpus=$2 host port user i
  host=$(node_name 1) user=$(id -un)
  port=$(free_ports $((nodes + 2))) || return 1
  cat <<TEXT
ClusterName=caravan
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
# A requeued job may start again after cred_expire + 1 seconds; 5 is the least that Slurm takes.
AuthInfo=socket=$cluster/munge.socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=$port
SlurmdPort=$((port + 1))
StateSaveLocation=$cluster/state
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd.%n.pid
SlurmdSpoolDir=$cluster/spool.%n
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=pmix
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=100000,requeue_setup_env_fail
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
KillOnBadExit=1
MinJobAge=300
SlurmctldTimeout=60
SlurmdTimeout=300
MessageTimeout=60
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PropagateResourceLimitsExcept=MEMLOCK
TmpFS=$cluster/tmp.%n
MailProg=/bin/true
TEXT
  for ((i = 1; i <= nodes; ++i)); do
    printf 'NodeName=%s NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=%d Boards=1 Sockets=1 CoresPerSocket=%d ' \
      "$(node_name "$i")" "$host" $((port + 1 + i)) "$cpus" "$cpus"
    printf 'ThreadsPerCore=1 RealMemory=1000 State=UNKNOWN\n'
  done
  cat <<TEXT
PartitionName=low  Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1  PreemptMode=REQUEUE GraceTime=60
PartitionName=sudden Nodes=ALL Default=NO MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=high Nodes=ALL Default=NO  MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
TEXT
}

# start_cluster FOLDER NODES CPUS: false when it did not come up; the logs are in FOLDER, whose path any user must be
# able to follow (munge wants that). Sets SLURM_CONF.
start_cluster() {
  local nodes=$2 cpus=$3 i name variable
  cluster=$1
  # Nothing of a Slurm around this one may reach it.
  for variable in $(compgen -e); do
    case $variable in SLURM_* | SLURMD_* | SBATCH_* | SRUN_* | SCANCEL_* | SQUEUE_* | PMI*) unset "$variable" ;; esac
  done
  mkdir -p -- "$cluster/state" || return 1
  chmod 755 "$cluster" || return 1
  write_configuration "$nodes" "$cpus" >"$cluster/slurm.conf" || return 1
  export SLURM_CONF=$cluster/slurm.conf
  (umask 077 && head -c 128 /dev/urandom >"$cluster/munge.key") || return 1
  munged --foreground --socket="$cluster/munge.socket" --key-file="$cluster/munge.key" \
    --pid-file="$cluster/munged.pid" --log-file="$cluster/munged.log" --seed-file="$cluster/munge.seed" \
    >"$cluster/munged.output" 2>&1 &
  cluster_daemons=("$!")
  until [ -S "$cluster/munge.socket" ]; do
    cluster_runs || return 1
    sleep 0.1
  done
  slurmctld -D -f "$SLURM_CONF" >"$cluster/slurmctld.output" 2>&1 &
  cluster_daemons=("$!" "${cluster_daemons[@]}")
  for ((i = 1; i <= nodes; ++i)); do
    name=$(node_name "$i")
    mkdir -p -- "$cluster/spool.$name" "$cluster/tmp.$name"
    slurmd -D -f "$SLURM_CONF" -N "$name" >"$cluster/slurmd.$name.output" 2>&1 &
    cluster_daemons=("$!" "${cluster_daemons[@]}")
  done
  for ((i = 0; i < 300; ++i)); do
    cluster_runs || return 1
    [ "$(timeout 10 sinfo -h -N -p low -t idle -o %N 2>/dev/null | sort -u | wc -l)" -eq "$nodes" ] && return 0
    sleep 0.1
  done
  return 1
}
cluster_runs() {
  local daemon
  for daemon in "${cluster_daemons[@]}"; do kill -0 "$daemon" 2>/dev/null || return 1; done
}

# Every process that a job of this cluster started: its environment names the cluster's configuration.
cluster_processes() {
  local folder
  for folder in /proc/[0-9]*; do
    [ "${folder#/proc/}" != "$$" ] && grep -qszxF "SLURM_CONF=$cluster/slurm.conf" "$folder/environ" &&
      echo "${folder#/proc/}"
  done
  return 0
}

stop_cluster() {
  local i left
  [ ${#cluster_daemons[@]} -gt 0 ] || return 0
  timeout 5 scancel --user="$(id -un)" >/dev/null 2>&1 || true
  for ((i = 0; i < 80; ++i)); do
    [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
    sleep 0.1
  done
  kill -TERM "${cluster_daemons[@]}" 2>/dev/null || true
  for ((i = 0; i < 50; ++i)); do
    kill -0 "${cluster_daemons[@]}" 2>/dev/null || break
    sleep 0.1
  done
  mapfile -t left < <(cluster_processes)
  kill -KILL "${cluster_daemons[@]}" "${left[@]}" 2>/dev/null || true
  wait "${cluster_daemons[@]}" 2>/dev/null || true
  cluster_daemons=()
  return 0
}
