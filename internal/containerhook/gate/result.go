package gate

// Result is what a held exec turned out to be: the label "result" of the metric.
type Result uint8

const (
	OtherNode Result = iota // of another node on the same kernel
	Rootless                // not by root, and that was not asked for
	Reexec                  // a runtime's child executes the runtime
	Ignored                 // not a command that makes or ends a container
	OverLimit               // too many at once
	Error                   // who or what it is could not be read
	Timeout                 // the deadline was over first
	NoWorker                // nobody was there to look at it
	Create
	Run
	Restore
	Start
	Delete
	Conmon

	// Results is how many there are.
	Results
)

func (r Result) String() string {
	return [Results]string{"other_node", "rootless", "reexec", "ignored", "over_limit", "error", "timeout", "no_worker",
		"create", "run", "restore", "start", "delete", "conmon"}[r]
}
