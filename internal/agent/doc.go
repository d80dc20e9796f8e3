// Package agent keeps what the API has of this node's containers equal to what the node has.
//
//	hook.Event ─► Set: this node's containers (set.go) ─► Writer (writer.go, api.go) ─► NodeContainers, NodeContainerAgent
//	                 ▲   what the API has (ledger.go)          pause.go: when the API is away
//	                 └── Checkpoint, for the next agent
//
// An event only changes the Set, which is the truth; the Writer follows it, whatever was lost or refused on the way.
package agent
