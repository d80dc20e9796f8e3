// Package controlplane starts a real kube-apiserver with its etcd on loopback, for tests: TLS, the authorizers Node and
// RBAC, and service account tokens that are bound to pods. There is no kubelet and no scheduler: a pod is an object, and
// is on the node that it names. What it started ends with it, also where the test's process is killed.
package controlplane
