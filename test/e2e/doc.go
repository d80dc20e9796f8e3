// Package e2e tests an installed chart on a real cluster, with KUBECONFIG: the one of make cluster, on whose nodes it can
// do everything, or any other, where tests that need that are skipped. Pods of tests are in a namespace of their own.
//
// Every test ends with one question, asked by agree: are the NodeContainers what the node's runtimes say?
package e2e
