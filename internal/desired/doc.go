// Package desired holds the containers of this node as the world should know them, whatever the world knows.
//
//	event.Event ─► Set (set.go) ─► what is to be written, and what has been (ledger.go)
//	                ▲
//	                └── Checkpoint, for the next agent on the node (checkpoint.go)
//
// An event only changes the Set, which is the truth. Who writes asks it what to write.
package desired
