package server

import (
	"fmt"
	"os"

	"belay/internal/eventloop"
	"belay/internal/systemd"
)

// openCredentials opens the directory of credentials (systemd.exec(5), LoadCredential=)
// if the parent passed no descriptor of it. The mount that has it is the unit's; only
// the process that the manager started may look it up, and all who come after it
// reach it by the descriptor.
//
// A directory that cannot be opened is no error before something is looked up in it.
func (s *Server) openCredentials() {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if s.credentials >= 0 || dir == "" {
		return
	}
	fd, err := systemd.OpenDirectory(dir)
	switch {
	case err == nil:
		s.credentials = fd
	case s.parent == nil:
		s.log.Warn("credentials cannot be read", "error", err)
	}
}

// credentialsPath is a path of the directory for this process; "": there is none.
func (s *Server) credentialsPath() string {
	if s.credentials < 0 {
		return ""
	}
	return fmt.Sprintf("/proc/self/fd/%d", s.credentials)
}

// Credentials is for the next process.
func (s *Server) Credentials() int { return s.credentials }

// closeCredentials comes after the end of the node, which passes the descriptor on,
// and at the end of the process: what the store still looks for it finds no more.
func (s *Server) closeCredentials() {
	if s.credentials >= 0 {
		eventloop.Close(s.credentials)
		s.credentials = -1
	}
}
