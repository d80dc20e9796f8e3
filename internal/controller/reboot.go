package controller

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/containerhook/containerhook/api/v1alpha1"
	"github.com/containerhook/containerhook/internal/cache"
)

// outlivedByNode reports whether c's node has booted since c was made: c ended, and no agent will say so. Boot IDs have
// no order. What distinguishes an earlier boot from one that the Node does not know yet is that the kubelet has reported since
// c was made; where it never did, nothing is known.
func outlivedByNode(c *v1alpha1.NodeContainer, node *corev1.Node) bool {
	boot := node.Status.NodeInfo.BootID
	return boot != "" && boot != c.Spec.BootID && c.Status.State != v1alpha1.StateStopped &&
		c.CreationTimestamp.Time.Before(cache.ReportedAt(node))
}
