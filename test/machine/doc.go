// Package machine is what tests with real containers share: the namespaces of a pod to run the agent in, private copies of
// runtimes, and the proof that nothing is left behind. They need root.
package machine
