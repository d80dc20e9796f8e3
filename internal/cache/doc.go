// Package cache is what the controller holds in memory of pods, nodes, containers and agents: what the policies ask for
// (strip.go), and how they find it (index.go). A cluster of 5,000 nodes has 150,000 pods.
//
// What is not held reads as empty: nothing but a policy may read these objects, and nothing may write them back.
package cache
