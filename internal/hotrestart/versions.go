package hotrestart

import (
	"fmt"

	"belay/internal/shm"
)

// VersionRange is the versions of the protocol that this program speaks.
func VersionRange() (low, high uint32) { return versions() }

// Versions is what belayd version prints.
func Versions() string {
	low, high := versions()
	return fmt.Sprintf("protocol %d-%d, segment %d", low, high, shm.Version)
}
