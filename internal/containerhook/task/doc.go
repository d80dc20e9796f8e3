// Package task asks the kernel about tasks: which one a permission event holds (Lookup), with what arguments it calls
// execve (ArgvReader), and what becomes of those that are followed (Tracer). The programs are in bpf/.
//
// The gate process loads them all and passes their descriptors to each worker, which opens them with FromFiles: what the
// tracer reports between two workers waits in its ring buffer for the next one.
package task
