# shellcheck shell=bash
# Certificates and kubeconfigs of the cluster, in $CLUSTER; for cluster.sh. They are good for ten days.

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$CLUSTER/$1.key" 2>/dev/null; }

# certificate NAME SUBJECT [ALTERNATIVE NAMES]
certificate() {
  new_key "$1"
  openssl req -new -key "$CLUSTER/$1.key" -subj "$2" |
    openssl x509 -req -CA "$CLUSTER/ca.crt" -CAkey "$CLUSTER/ca.key" -CAcreateserial -days 10 -out "$CLUSTER/$1.crt" \
      -extfile <(echo "extendedKeyUsage = clientAuth, serverAuth"; [[ -z ${3:-} ]] || echo "subjectAltName = $3") 2>/dev/null
}

# client NAME SUBJECT makes a user of the API, and its kubeconfig.
client() {
  certificate "$1" "$2"
  cat >"$CLUSTER/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters:
  - {name: containerhook, cluster: {server: "https://$ADDRESS:6443", certificate-authority: $CLUSTER/ca.crt}}
users:
  - {name: $1, user: {client-certificate: $CLUSTER/$1.crt, client-key: $CLUSTER/$1.key}}
contexts:
  - {name: containerhook, context: {cluster: containerhook, user: $1}}
current-context: containerhook
YAML
}

make_pki() {
  new_key ca
  openssl req -x509 -key "$CLUSTER/ca.key" -subj /CN=containerhook-cluster -days 10 -out "$CLUSTER/ca.crt"
  openssl genrsa -out "$CLUSTER/service-account.key" 2048 2>/dev/null
  certificate apiserver /CN=kube-apiserver "IP:$ADDRESS, IP:127.0.0.1, IP:10.96.0.1, DNS:kubernetes.default.svc"
  client admin /O=system:masters/CN=admin
  for component in kube-controller-manager kube-scheduler kube-proxy; do
    client $component /CN=system:$component
  done
}
