package eventloop

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// UnixUser is who connected to a Unix listener, in our namespaces: the user and the
// process that called connect(2) (SO_PEERCRED, unix(7)). fd may be one that the Go
// runtime polls.
func UnixUser(fd int) (uid, pid int, err error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, 0, fmt.Errorf("get SO_PEERCRED: %w", err)
	}
	return int(cred.Uid), int(cred.Pid), nil
}
