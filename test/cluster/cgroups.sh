# shellcheck shell=bash
# Cgroups of version 1, of version 2 and of both; for cluster.sh. What was started is found again by its cgroup, never by
# its name, and what a node leaves is below its cgroup.

hierarchies() { awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/mounts; }

# make_group GROUP makes it in every hierarchy.
make_group() {
  local hierarchy file
  for hierarchy in $(hierarchies); do
    mkdir -p "$hierarchy/$1"
    for file in cpuset.cpus cpuset.mems; do # of version 1: a new group has none, and takes no process
      [[ ! -e $hierarchy/$file ]] || cat "$hierarchy/$file" >"$hierarchy/$1/$file"
    done
  done
}

# join GROUP moves the shell that calls it.
join() {
  local hierarchy
  for hierarchy in $(hierarchies); do
    echo "$BASHPID" >"$hierarchy/$1/cgroup.procs"
  done
}

# pids_of GROUP prints who is in it or below.
pids_of() {
  local hierarchy
  for hierarchy in $(hierarchies); do
    find "$hierarchy/$1" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done | sort -nu
}

# kill_group GROUP kills whoever is in it, and removes it.
kill_group() {
  local hierarchy pids until=$((SECONDS + 30))
  while pids=$(pids_of "$1") && [[ -n $pids ]]; do
    ((SECONDS < until)) || { echo "cluster: processes of $1 do not end:" "$pids" >&2; return 1; }
    # shellcheck disable=SC2086 # many pids
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
  for hierarchy in $(hierarchies); do
    until [[ ! -e $hierarchy/$1 ]] || find "$hierarchy/$1" -depth -type d -exec rmdir {} + 2>/dev/null; do
      ((SECONDS < until)) || { echo "cluster: $hierarchy/$1 stays" >&2; return 1; }
      sleep 0.1
    done
  done
}
