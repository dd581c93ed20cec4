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
func (s *Server) openCredentials() error {
	if s.credentials >= 0 {
		return nil
	}
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil
	}
	fd, err := systemd.OpenDirectory(dir)
	if err != nil && s.parent == nil {
		return fmt.Errorf("CREDENTIALS_DIRECTORY: %w", err)
	}
	if err == nil {
		s.credentials = fd
	}
	return nil
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
