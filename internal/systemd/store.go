package systemd

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// storeProbe is the name under which StoreWorks stores a pipe for a moment.
const storeProbe = "belay.probe"

// StoreWorks finds out whether the manager keeps what Store sends. It answers
// nobody, but it closes at once what it does not take (FileDescriptorStoreMax= is 0,
// or reached): so a pipe is stored, and its other end tells. A nil Notifier has
// no store and no trouble with it.
func (n *Notifier) StoreWorks(timeout time.Duration) (bool, error) {
	if n == nil {
		return true, nil
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return false, fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(p[0])
	err := n.Store(storeProbe, p[1])
	unix.Close(p[1])
	if err != nil {
		return false, err
	}
	if err := n.Barrier(timeout); err != nil {
		return false, err
	}
	fds := []unix.PollFd{{Fd: int32(p[0])}}
	if _, err := unix.Poll(fds, 0); err != nil {
		return false, fmt.Errorf("poll: %w", err)
	}
	kept := fds[0].Revents&unix.POLLHUP == 0
	return kept, n.Unstore(storeProbe)
}
