// Package agent keeps what the API has of this node's containers equal to what the node has.
//
//	desired.Set ─► Writer (writer.go) ─► api.go ─► NodeContainers
//	                  │   pause.go: when the API is away
//	                  └─► how the agent does (agentstatus.go) ─► its NodeContainerAgent
//
// The Writer follows the Set, whatever was lost or refused on the way. All that it makes belongs to its Node (token.go).
package agent
