// Package controller compares the containers that run with those that pods account for, and removes the objects of
// those that are gone.
//
// Each policy is a file, and decides in a pure function:
//
//	match.go      PodMatched: which pod accounts for a container
//	retire.go     when the object of a stopped container goes
//	reboot.go     which containers ended with an earlier boot of their node
//	forgotten.go  which containers their node's agents know nothing of any more
//	sweep.go      when a node is gone, and all of its objects with it
//	lost.go       when an agent is lost, and when so many are that the fault is rather here
//	breaker.go    when there are too many objects for agents to make more
//	trust.go      when nothing may be deleted
//
// Package drift says what a container has that its pod did not ask for: SpecMatched. Package cache holds what they all
// read. containers.go and nodes.go act on what all of them decide: one reconciler for each NodeContainer, one for each
// node.
//
// What is not known is kept. A container that runs is never deleted, whatever became of its pod or agent, unless its
// node is gone.
package controller
