package hotrestart

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// spareDescriptors is what a process needs beside its listen sockets to come up.
const spareDescriptors = 64

// checkDescriptors refuses before the kernel drops descriptors on the way.
func checkDescriptors(n int) error {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if uint64(n+spareDescriptors) > r.Cur {
		return fmt.Errorf("the running process has %d listen sockets; the limit of %d open files leaves no room for them", n, r.Cur)
	}
	return nil
}
