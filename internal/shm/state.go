package shm

import "fmt"

// State is what a process does.
//
//	starting ------------------------------> serving -> draining -> (gone)
//	                        taking-over ---+    |
//	                             |         v    +-> stopping
//	prepare -> commit -> probation --------> serving
//	   |          |          |
//	   +----------+----------+-> stepping-back -> (gone)
//
// The line above is a process without a parent, the ones below a child of a hot
// restart.
type State uint8

// The states. The segment keeps the numbers: a new one goes to the end.
const (
	StateStarting     State = iota + 1 // without a parent, not accepting yet
	StatePrepare                       // a child: takes sockets and state over
	StateCommit                        // a child: begins to accept
	StateProbation                     // a child: accepts, may still be undone
	StateServing                       // the main process
	StateDraining                      // a parent that was released
	StateSteppingBack                  // a child that is undone
	StateStopping                      // ends by order
	StateTakingOver                    // a child whose parent hangs: waits for the manager to make it main
)

func (s State) String() string {
	names := [...]string{"none", "starting", "prepare", "commit", "probation", "serving", "draining", "stepping-back", "stopping", "taking-over"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}
