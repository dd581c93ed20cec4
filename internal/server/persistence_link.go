package server

import (
	"encoding/json"
	"fmt"

	"belay/internal/cluster"
	"belay/internal/hotrestart"
	"belay/internal/persistence"
)

// The owners of what passes on of session persistence. Tables and the counts of
// sessions may be large and pass in pieces, see persistenceLink; their names follow.
const (
	stateKeys        = "persistence-keys"
	stateKeysVersion = 1
	stateEndpoints   = "endpoints"
	stateTable       = "table:"
	stateSessions    = "sessions:"
	stateTableVer    = 1 // a piece has a version of its own beside
	stateCleared     = "table-cleared"
	stateClearedVer  = 1
)

// persistenceState is what a child starts with, beside the tables.
func (s *Server) persistenceState() []hotrestart.Blob {
	list := []hotrestart.Blob{{Owner: stateEndpoints, Version: cluster.EndpointsVersion, Data: cluster.HandOver(s.clusterList())}}
	if s.keyring != nil {
		list = append(list, keysBlob(s.keyring.Load()))
	}
	if len(s.tracked) > 0 {
		list = append(list, s.trackedState())
	}
	return list
}

func keysBlob(r *persistence.Ring) hotrestart.Blob {
	return hotrestart.Blob{Owner: stateKeys, Version: stateKeysVersion, Data: r.Export()}
}

func (s *Server) clusterList() []*cluster.Cluster {
	list := make([]*cluster.Cluster, len(s.clusters))
	for i, c := range s.clusters {
		list[i] = c.Cluster
	}
	return list
}

// takeKeys takes another process's ring: before there is a keyring for openKeys,
// later in place of the ring that is in use.
func (s *Server) takeKeys(version uint32, data []byte) error {
	if version != stateKeysVersion {
		return errVersion
	}
	ring, err := persistence.ImportRing(data)
	if err != nil {
		return err
	}
	k := &s.keys
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case s.keyring == nil:
		k.given = ring
	case k.shared == "" && string(ring.Text()) != string(s.keyring.Load().Text()):
		s.keyring.Swap(ring)
		k.unsaved = k.path != ""
	}
	return nil
}

// persistenceLink tells one other process what this one learns of sessions, and
// what its operator does. It is a hotrestart.Link.
//
// Who is main tells of keys and of the operator's wishes; of entries each tells the
// other, also those that it has from a third, so that all know all.
type persistenceLink struct {
	s       *Server
	tables  []linkedTable
	at      int               // the table that is told of next
	keys    *persistence.Ring // told last
	wishes  string            // told last
	cleared uint64            // number of the last clearing that was told
}

// linkedTable is a table with how far it was told of.
type linkedTable struct {
	owner  string
	table  *persistence.Table
	cursor persistence.Cursor
}

// linkPiece is about how many bytes of entries one message has: some thousands, a
// few milliseconds of work at either end.
const linkPiece = 256 << 10

// Link begins an exchange with another process.
func (s *Server) Link() hotrestart.Link { return s.newLink() }

func (s *Server) newLink() *persistenceLink {
	l := &persistenceLink{s: s}
	for _, c := range s.cfg.Tables {
		if t := s.tables[c.Name]; t != nil {
			l.tables = append(l.tables, linkedTable{owner: stateTable + c.Name, table: t})
		}
	}
	for _, c := range s.clusters {
		if c.Sessions != nil {
			l.tables = append(l.tables, linkedTable{owner: stateSessions + c.Config.Name, table: c.Sessions})
		}
	}
	return l
}

// fetchTables takes what the parent has in its tables.
func (s *Server) fetchTables() error {
	if s.parent == nil {
		return nil
	}
	l := s.newLink()
	if err := s.parent.Fetch(l); err != nil {
		return fmt.Errorf("tables of the old process: %w", err)
	}
	l.settle()
	s.toParent = l
	return nil
}

// settle notes that the other process knows all that is in the tables.
func (l *persistenceLink) settle() {
	for i := range l.tables {
		l.tables[i].cursor = l.tables[i].table.CursorNow()
	}
}

// Next is what the other process is told next.
func (l *persistenceLink) Next() (list []hotrestart.Blob, more bool) {
	list = l.orders()
	now := unixNow()
	for room := linkPiece; l.at < len(l.tables); l.at++ {
		t := &l.tables[l.at]
		data, done := t.table.Export(nil, &t.cursor, room, now)
		if len(data) > 0 {
			list = append(list, hotrestart.Blob{Owner: t.owner, Version: stateTableVer, Data: data})
			room -= len(data)
		}
		if !done {
			return list, true
		}
	}
	l.at = 0
	return list, false
}

// orders is what is told beside entries, and before them.
func (l *persistenceLink) orders() (list []hotrestart.Blob) {
	s := l.s
	if cleared, last := s.clearings.after(l.cleared); len(cleared) > 0 {
		data, err := json.Marshal(cleared)
		if err != nil { // numbers and strings always can be
			panic(err)
		}
		list = append(list, hotrestart.Blob{Owner: stateCleared, Version: stateClearedVer, Data: data})
		l.cleared = last
	}
	if !s.service.main.Load() {
		return list
	}
	if s.keyring != nil && s.keys.shared == "" {
		if ring := s.keyring.Load(); ring != l.keys {
			list = append(list, keysBlob(ring))
			l.keys = ring
		}
	}
	if wishes := string(cluster.Wishes(s.clusterList())); wishes != l.wishes {
		list = append(list, hotrestart.Blob{Owner: stateEndpoints, Version: cluster.EndpointsVersion, Data: []byte(wishes)})
		l.wishes = wishes
	}
	return list
}

// Take takes what the other process tells.
func (l *persistenceLink) Take(list []hotrestart.Blob) {
	for _, b := range list {
		if err := l.take(&b); err != nil {
			l.s.log.Warn("what another generation tells is not taken", "owner", b.Owner, "version", b.Version, "error", err)
		}
	}
}

func (l *persistenceLink) take(b *hotrestart.Blob) error {
	switch b.Owner {
	case stateKeys:
		if l.s.keyring == nil { // nothing here is sealed
			return nil
		}
		return l.s.takeKeys(b.Version, b.Data)
	case stateEndpoints:
		return cluster.TakeWishes(l.s.clusterList(), b.Version, b.Data)
	case stateCleared:
		return l.s.takeCleared(b.Version, b.Data)
	}
	for i := range l.tables {
		t := &l.tables[i]
		if t.owner != b.Owner {
			continue
		}
		if b.Version != stateTableVer {
			return errVersion
		}
		if _, err := t.table.Import(b.Data, unixNow()); err != nil {
			return err
		}
		// The other process may have told this before it heard of a clearing.
		cleared, _ := l.s.clearings.after(l.cleared)
		for _, c := range cleared {
			if stateTable+c.Table == t.owner {
				c.apply(t.table)
			}
		}
	}
	return nil // of a table that this configuration does not have
}
