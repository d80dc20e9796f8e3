// Package agent has the real agent tell a real API server of real containers: the agent runs in a pod's namespaces, with
// the token of a service account that is bound to a pod on its node, so that the admission policy and the owners count.
// Containers are made by private copies of runc. It needs root.
package agent
