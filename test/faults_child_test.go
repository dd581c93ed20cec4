package test

import (
	"slices"
	"testing"
	"time"

	"belay/test/harness"
)

const (
	died      = "has died"
	hangs     = "hangs: no heartbeat"
	notReady  = "was not ready within 10s"
	noAnswer  = "does not answer within 2s|no answer: nothing within 2s"
	hookEnded = "the hook of the reload has ended"
)

// quick is a reload that must not wait for a deadline of its own: two
// heartbeats, or a call, and what a busy machine takes.
const quick = 8 * time.Second

// prepareCells are the faults of a child that does not accept yet. They cost
// nothing.
var prepareCells = []cell{
	{point: "child.start", action: "kill", end: kept, reason: "has ended without a word"},
	{point: "child.start", action: "stop", end: kept, reason: notReady},
	{point: "child.start", action: "exit", end: kept, reason: "has ended without a word"},
	{point: "child.hello", action: "kill", end: kept, reason: died},
	{point: "child.hello", action: "stop", end: kept, reason: notReady},
	{point: "child.hello", action: "panic", end: kept, reason: died},
	{point: "child.sockets", action: "kill", end: kept, reason: died},
	{point: "child.sockets", action: "stop", end: kept, reason: hangs, within: quick},
	{point: "child.state", action: "kill", end: kept, reason: died},
	{point: "child.state", action: "stop", end: kept, reason: hangs, within: quick},
	{point: "child.state", action: "panic", end: kept, reason: died},
	{point: "child.built", action: "kill", end: kept, reason: died},
	{point: "child.built", action: "stop", end: kept, reason: hangs, within: quick},
	{point: "child.built", action: "exit", end: kept, reason: died},
	// Slow is not hung.
	{point: "child.hello", action: "sleep=3s", end: replaced},
	{point: "child.state", action: "sleep=3s", end: replaced},
	// Sockets that a child adds to those of a port would take their connections
	// with them when it dies.
	{
		point: "child.built", action: "kill", end: kept, reason: died,
		before: func(_ *testing.T, b *harness.FaultBox) { b.Configure(4) },
		after:  func(_ *testing.T, b *harness.FaultBox) { b.Configure(2) },
	},
	{
		end: kept, reason: "workers",
		before: func(_ *testing.T, b *harness.FaultBox) { b.Misconfigure() },
		after:  func(_ *testing.T, b *harness.FaultBox) { b.Configure(2) },
	},
}

// commitCells are the faults of a child that has begun to accept. What it
// accepted goes with it, nothing else.
var commitCells = []cell{
	{point: "child.commit", action: "kill", end: kept, reason: died, cut: true, forgets: true},
	{point: "child.commit", action: "stop", end: kept, reason: hangs, cut: true, forgets: true, within: quick},
	{point: "child.commit", action: "exit", end: kept, reason: died, cut: true, forgets: true},
}

var probationCells = []cell{
	{point: "child.committed", action: "kill", end: rolledBack, reason: died, cut: true, forgets: true},
	{point: "child.committed", action: "stop", end: rolledBack, reason: hangs, cut: true, forgets: true, within: quick},
	{point: "child.committed", action: "panic", end: rolledBack, reason: died, cut: true, forgets: true},
	{point: "child.probed", action: "kill", end: rolledBack, reason: died, cut: true, forgets: true},
	{point: "child.probed", action: "stop", end: rolledBack, reason: hangs, cut: true, forgets: true, within: quick},
	{point: "child.probed", action: "exit", end: rolledBack, reason: died, cut: true, forgets: true},
}

// releaseCells: the child is the manager's main process, whose end is that of all.
var releaseCells = []cell{
	{point: "child.release", action: "kill", end: restarted, cut: true},
	{point: "child.release", action: "stop", end: restarted, cut: true},
	{point: "child.released", action: "kill", end: restarted, cut: true},
	{point: "child.released", action: "stop", end: restarted, cut: true},
}

func TestFaultsOfTheChildUntilCommit(t *testing.T) {
	t.Parallel()
	b := harness.BootFaultBox(t, false)
	runCells(t, b, slices.Concat(prepareCells, commitCells))
}
