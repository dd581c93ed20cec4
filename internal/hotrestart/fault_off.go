//go:build !fault

package hotrestart

// Fault is a place where a build with the tag "fault" can be made to die, stop
// or wait; in every other build it is nothing.
func Fault(string) {}

// versions is the range of the protocol that this program speaks.
func versions() (low, high uint32) { return MinVersion, MaxVersion }
