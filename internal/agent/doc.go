// Package agent tells of this node's containers: what containerhook sees (hook.Event) becomes a NodeContainer.
//
//	hook.Event ─► facts, pod, security, mounts ─► spec, once   ┐
//	           ─► status ─► merged, never backwards            ├─► Set: this node's containers ─► Printer
//	           ─► name                                         ┘
//
// Everything between an event and an object is a function of values. What config.json holds is not trusted and not
// all told: redact.go says what never leaves the node, and bounds what does.
package agent
