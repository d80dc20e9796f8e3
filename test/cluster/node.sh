#!/usr/bin/env bash
# The first process of a node: `node.sh NAME` in fresh PID, mount, UTS, IPC and cgroup namespaces and the node's network
# namespace; for cluster.sh. Gives the node a /proc, /sys and /run of its own, a disk that outlives it at /var/lib and
# /var/log, and the machine's /usr, runc's inode with it. Then it keeps containerd, kube-proxy and the kubelet running.
set -euo pipefail
name=$1 index=${1#node} state=$CLUSTER/$1 runtime=/usr/sbin/runc

# mount_cgroups mounts what this cgroup namespace shows: the node's own part.
mount_cgroups() {
  local controllers dir before
  before=$(stat --file-system --format %T /sys/fs/cgroup)
  umount --recursive --lazy /sys
  mount -t sysfs sysfs /sys # of this network namespace
  if [[ $before == cgroup2fs ]]; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    sed 's/\(^\| \)/\1+/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
    return
  fi
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  while IFS=: read -r _ controllers _; do
    [[ -n $controllers ]] || continue # version 2 beside version 1: crun refuses that, and nobody else needs it
    dir=/sys/fs/cgroup/${controllers#name=}
    mkdir "$dir"
    [[ $controllers != name=* ]] || controllers=none,$controllers
    mount -t cgroup -o "$controllers" cgroup "$dir"
  done </proc/self/cgroup
}

mount --make-rprivate /
hostname "$name"
mount -t proc proc /proc
mount_cgroups
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 run /run
for dir in /var/lib /var/log; do
  mkdir -p "$state/disk$dir"
  mount --bind "$state/disk$dir" "$dir"
done
# As after a boot: the kernel's own ID does not change when a node does.
mount --bind "$state/boot_id" /proc/sys/kernel/random/boot_id
mount --make-rshared /
sysctl -qw net.ipv4.ip_forward=1
mkdir /run/manifests

# shellcheck disable=SC2153 # cluster.sh sets it
[[ $RUNTIME == runc ]] || runtime=$(dirname "$0")/$RUNTIME.sh

# A runtime as nvidia-container-runtime is one: it may edit config.json, by /run/wrapped.sed, before the real one reads it.
cat >"$state/wrapped-runtime" <<SH
#!/bin/sh
bundle=
for argument; do
  [ "\$previous" != --bundle ] || bundle=\$argument
  previous=\$argument
done
[ -z "\$bundle" ] || [ ! -e /run/wrapped.sed ] || sed -i -E -f /run/wrapped.sed "\$bundle/config.json"
exec $runtime "\$@"
SH
chmod +x "$state/wrapped-runtime"

mkdir -p "$state/cni"
cat >"$state/cni/bridge.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isDefaultGateway": true,
  "hairpinMode": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.$index.0/24"}]]}}]}
JSON

cat >"$state/containerd.toml" <<TOML
version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "containerhook.test/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true # a lower one needs CAP_SYS_RESOURCE, which a machine may lack
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "$runtime"
      SystemdCgroup = false
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.wrapped]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.wrapped.options]
      BinaryName = "$state/wrapped-runtime"
      SystemdCgroup = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "$state/cni"
TOML

cat >"$state/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $CLUSTER/ca.crt}}
cgroupDriver: cgroupfs
crashLoopBackOff: {maxContainerRestartPeriod: 5s} # what crashed while something was away is soon back
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
oomScoreAdj: 0 # as above
serializeImagePulls: false
staticPodPath: /run/manifests
volumePluginDir: /var/lib/kubelet/plugins
YAML

cat >"$state/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16
hostnameOverride: $name
clientConnection: {kubeconfig: $CLUSTER/kube-proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s} # the machine's, not a namespace's
oomScoreAdj: 0
YAML

# keep COMMAND... starts it again whenever it ends, as systemd would.
keep() {
  while :; do
    "$@" &>>"$state/$1.log" || true
    sleep 0.5
  done
}

keep containerd --config "$state/containerd.toml" &
until ctr version &>/dev/null; do
  sleep 0.1
done
for image in "$CLUSTER"/images/*.tar; do
  ctr --namespace k8s.io images import --local "$image"
done
keep kube-proxy --config "$state/kube-proxy.yaml" &
keep kubelet --config "$state/kubelet.yaml" --kubeconfig "$CLUSTER/$name.kubeconfig" --hostname-override "$name" \
  --node-ip 10.200.0.$((10 + index)) &
wait # and reap what is left to the first process
