#!/usr/bin/env bash
# A real Kubernetes on this machine, for tests: the control plane as processes of the machine, and nodes with kubelet,
# kube-proxy, containerd and runc, each in PID, mount, network, UTS, IPC and cgroup namespaces of its own, as kind's are.
# Nothing is pulled, and nothing but this script's own things is touched. As root, on Debian.
#
#   cluster.sh up                  control plane and $NODES nodes (2), whose $RUNTIME is runc or crun
#   cluster.sh load IMAGE.tar      bring an image to every node
#   cluster.sh exec NODE COMMAND…  run a command on a node, such as node1
#   cluster.sh pid NODE            of the node's first process, as the machine knows it
#   cluster.sh crash NODE          as if its power was cut
#   cluster.sh boot NODE…          and back: its disk is still there, what was in memory is not
#   cluster.sh stop COMPONENT      of the control plane, such as kube-apiserver
#   cluster.sh start COMPONENT
#   cluster.sh down                everything away
#
# What it keeps is in .cache/cluster: admin.kubeconfig, the nodes' disks, and what each process says in *.log.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
export CLUSTER=$repository/.cache/cluster BIN=$repository/.cache/kubernetes/current
export KUBECONFIG=$CLUSTER/admin.kubeconfig PATH=$BIN:$PATH
export ADDRESS=10.200.0.1 # of the API server, on the bridge that nodes are connected to
prefix=containerhook      # of what is named on the machine: the bridge, network namespaces, cgroups
# shellcheck source=test/cluster/pki.sh
source "$here/pki.sh"
# shellcheck source=test/cluster/controlplane.sh
source "$here/controlplane.sh"
# shellcheck source=test/cluster/cgroups.sh
source "$here/cgroups.sh"

# wait_for SECONDS COMMAND... polls.
wait_for() {
  local until=$((SECONDS + $1))
  until "${@:2}" &>/dev/null; do
    ((SECONDS < until)) || { echo "cluster: not within $1 s: ${*:2}; see $CLUSTER" >&2; return 1; }
    sleep 0.2
  done
}

nodes() { ip netns list | sed -n "s/^$prefix-\(node[0-9]*\).*/\1/p"; }

# connect NODE gives it a network namespace, an address, and all nodes the ways to each other's pods.
connect() {
  local index=${1#node} netns=$prefix-$1 link=hook-$1 other # links have names of at most 15 characters
  ip netns add "$netns"
  ip link add "$link" type veth peer name eth0 netns "$netns"
  ip link set "$link" master $prefix up
  ip -n "$netns" address add 10.200.0.$((10 + index))/24 dev eth0
  ip -n "$netns" link set eth0 up
  ip -n "$netns" link set lo up
  ip -n "$netns" route add default via $ADDRESS
  ip route replace "10.244.$index.0/24" via 10.200.0.$((10 + index))
  for other in $(nodes); do
    other=${other#node}
    ((other != index)) || continue
    ip -n "$netns" route replace "10.244.$other.0/24" via 10.200.0.$((10 + other))
    ip -n "$prefix-node$other" route replace "10.244.$index.0/24" via 10.200.0.$((10 + index))
  done
}

disconnect() {
  ip link delete "hook-$1" 2>/dev/null || true
  ip netns delete "$prefix-$1" 2>/dev/null || true
  ip route delete "10.244.${1#node}.0/24" 2>/dev/null || true
}

# start_node NODE starts the node's first process, node.sh, in namespaces of its own. It must be connected.
start_node() {
  local node=$1
  cat /proc/sys/kernel/random/uuid >"$CLUSTER/$node/boot_id"
  make_group "$prefix-$node"
  make_group "$prefix-$node/system"
  (
    join "$prefix-$node" # the root of its cgroup namespace, which the kubelet wants to be without processes
    export -f hierarchies join
    # shellcheck disable=SC2016 # expanded by the inner shell
    exec setsid nsenter --net="/run/netns/$prefix-$node" unshare --cgroup bash -c 'join "$0" && exec "$@"' "$prefix-$node/system" \
      unshare --mount --uts --ipc --pid --fork --kill-child --propagation private \
      env -i PATH="$PATH" HOME=/root CLUSTER="$CLUSTER" RUNTIME="$(cat "$CLUSTER/runtime")" "$here/node.sh" "$node"
  ) </dev/null &>"$CLUSTER/$node/init.log" &
}

# boot NODE... connects nodes and starts them, all at once, and waits until they are ready.
boot() {
  local node
  for node; do
    mkdir -p "$CLUSTER/$node"
    connect "$node"
    [[ -e $CLUSTER/$node.kubeconfig ]] || client "$node" "/O=system:nodes/CN=system:node:$node"
    start_node "$node"
  done

  for node; do
    wait_for 120 is_ready "$node"
  done
}

# is_ready NODE says whether it is, since its last boot.
is_ready() {
  [[ $(kubectl get node "$1" -o jsonpath='{.status.nodeInfo.bootID} {.status.conditions[?(@.type=="Ready")].status}') == \
    "$(cat "$CLUSTER/$1/boot_id") True" ]]
}

# first NODE prints the machine's pid of the node's first process.
first() {
  local hierarchy files
  read -r hierarchy < <(hierarchies) # any will do
  mapfile -t files < <(sed 's|.*|/proc/&/status|' "$hierarchy/$prefix-$1/system/cgroup.procs" 2>/dev/null)
  # 1 in the second namespace. Others may end meanwhile.
  { grep -H '^NSpid:' "${files[@]}" /dev/null 2>/dev/null || true; } | sed -n 's|^/proc/\([0-9]*\)/status:NSpid:\t[0-9]*\t1$|\1|p' | grep . ||
    { echo "cluster: $1 is not running" >&2; return 1; }
}

# on NODE COMMAND... runs a command there; it ends with the node.
on() {
  local pid
  pid=$(first "$1")
  (
    join "$prefix-$1/system"
    exec nsenter --target "$pid" --mount --uts --ipc --net --pid --cgroup "${@:2}"
  )
}

crash() {
  kill_group "$prefix-$1"
  disconnect "$1"
}

up() {
  local images started=$SECONDS
  [[ ! -e $CLUSTER ]] || down
  mkdir -p "$CLUSTER"
  sysctl vm.overcommit_memory kernel.panic kernel.panic_on_oops >"$CLUSTER/sysctl" # the kubelet will change them
  echo "${RUNTIME:-runc}" >"$CLUSTER/runtime"
  ip link add $prefix type bridge
  ip address add $ADDRESS/24 dev $prefix
  ip link set $prefix up
  "$here/images.sh" & # which nodes need, and the control plane does not
  images=$!
  make_pki
  start_control_plane
  wait "$images"
  # shellcheck disable=SC2046 # as many words as nodes
  boot $(seq --format 'node%.0f' "${NODES:-2}")
  echo "cluster: up in $((SECONDS - started)) s; export KUBECONFIG=$KUBECONFIG PATH=$BIN:\$PATH"
}

down() {
  local node
  for node in $(nodes); do
    crash "$node"
  done
  kill_group $prefix-control-plane
  ip link delete $prefix 2>/dev/null || true
  [[ ! -e $CLUSTER/sysctl ]] || sysctl --quiet --load "$CLUSTER/sysctl"
  rm -rf --one-file-system "$CLUSTER"
}

load() {
  local node
  declare -A imports # their pids, by node
  for node in $(nodes); do
    on "$node" ctr --namespace k8s.io images import --local - <"$1" &>>"$CLUSTER/$node/images.log" &
    imports[$node]=$!
  done

  for node in "${!imports[@]}"; do
    wait "${imports[$node]}" ||
      { echo "cluster: $1 was not brought to $node; see $CLUSTER/$node/images.log" >&2; return 1; }
  done
}

case ${1:-} in
  up | down | load | boot | crash) "$@" ;;
  start) start_component "$2" ;;
  stop) kill_group "$prefix-control-plane/$2" ;;
  exec) on "${@:2}" ;;
  pid) first "$2" ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \?//;p}' "$0" >&2 && exit 2 ;;
esac
