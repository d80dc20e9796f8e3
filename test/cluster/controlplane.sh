# shellcheck shell=bash
# The control plane; for cluster.sh, which says what $prefix is.

# start_component NAME starts etcd, the API server, the controller manager or the scheduler in a cgroup of its own.
start_component() {
  local name=$1 group=${prefix:?}-control-plane/$1 command
  case $name in
    etcd)
      command=(--data-dir "$CLUSTER/etcd" --unsafe-no-fsync --log-level error
        --listen-client-urls http://127.0.0.1:23790 --advertise-client-urls http://127.0.0.1:23790
        --listen-peer-urls http://127.0.0.1:23800)
      ;;
    kube-apiserver)
      # shellcheck disable=SC2054 # the comma is in a value
      command=(--bind-address "$ADDRESS" --advertise-address "$ADDRESS" --secure-port 6443 --allow-privileged
        --etcd-servers http://127.0.0.1:23790 --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction
        --service-cluster-ip-range 10.96.0.0/16 --client-ca-file "$CLUSTER/ca.crt"
        --tls-cert-file "$CLUSTER/apiserver.crt" --tls-private-key-file "$CLUSTER/apiserver.key"
        --kubelet-client-certificate "$CLUSTER/admin.crt" --kubelet-client-key "$CLUSTER/admin.key"
        --kubelet-preferred-address-types InternalIP
        --service-account-issuer https://kubernetes.default.svc.cluster.local
        --service-account-key-file "$CLUSTER/service-account.key"
        --service-account-signing-key-file "$CLUSTER/service-account.key")
      ;;
    kube-controller-manager)
      command=(--kubeconfig "$CLUSTER/$name.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false
        --use-service-account-credentials --service-account-private-key-file "$CLUSTER/service-account.key"
        --root-ca-file "$CLUSTER/ca.crt")
      ;;
    kube-scheduler) command=(--kubeconfig "$CLUSTER/$name.kubeconfig" --bind-address 127.0.0.1 --leader-elect=false) ;;
    *) echo "cluster: no component $name" >&2 && return 2 ;;
  esac
  make_group "$prefix-control-plane"
  make_group "$group"
  (
    join "$group"
    exec setsid "$name" "${command[@]}"
  ) </dev/null &>>"$CLUSTER/$name.log" &
  [[ $name != kube-apiserver ]] || wait_for 120 kubectl get --raw /readyz
}

start_control_plane() {
  local name
  for name in etcd kube-apiserver kube-controller-manager kube-scheduler; do
    start_component $name
  done
}
