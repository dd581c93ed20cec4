package certs

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultRotation is how long one ticket key seals.
const DefaultRotation = 12 * time.Hour

// minSecret is the least length of a shared secret, in bytes.
const minSecret = 32

// Tickets is the ring of session ticket keys of a process. Time is cut into
// epochs, each with its key; the ring holds the previous, the current and the
// next one. The next exists before it seals, so that a process that was handed
// the ring, or a machine whose clock is behind, opens what the other sealed.
//
// Keys are random and in memory only, or derived from a shared secret.
type Tickets struct {
	rotation time.Duration
	ring     atomic.Pointer[ring] // read on workers

	mu       sync.Mutex // guards the following, and every store of ring
	secret   []byte     // nil: random keys
	known    map[int64]*ticketKey
	imported []*ticketKey // they only open, until their epoch is over
}

// ring never changes.
type ring struct {
	seal *ticketKey
	open []*ticketKey // with seal first
}

// NewTickets makes a ring of random keys; rotation 0 means DefaultRotation.
func NewTickets(rotation time.Duration, now time.Time) *Tickets {
	if rotation <= 0 {
		rotation = DefaultRotation
	}
	t := &Tickets{rotation: rotation, known: map[int64]*ticketKey{}}
	t.Rotate(now)
	return t
}

// SetSecret derives the keys from a secret from now on; equal secrets give equal
// keys anywhere. What was sealed before can be opened until it is too old.
func (t *Tickets) SetSecret(secret []byte, now time.Time) error {
	secret = bytes.TrimSpace(secret)
	if len(secret) < minSecret {
		return fmt.Errorf("the secret of session tickets has %d bytes, at least %d are needed (openssl rand -base64 48)", len(secret), minSecret)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if bytes.Equal(secret, t.secret) {
		return nil
	}
	for _, k := range t.known {
		t.imported = append(t.imported, k)
	}
	t.secret = bytes.Clone(secret)
	clear(t.known)
	t.rotate(now)
	return nil
}

// Rotate brings the ring to the epoch of now, and says when to come again.
func (t *Tickets) Rotate(now time.Time) (next time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rotate(now)
}

func (t *Tickets) epoch(now time.Time) int64 { return now.UnixNano() / int64(t.rotation) }

// rotate does it; the caller holds mu.
func (t *Tickets) rotate(now time.Time) (next time.Time) {
	current := t.epoch(now)
	for _, epoch := range []int64{current - 1, current, current + 1} {
		if t.known[epoch] != nil {
			continue
		}
		secret := random()
		if t.secret != nil {
			secret = derive(t.secret, epoch)
		}
		t.known[epoch] = newTicketKey(epoch, secret)
	}
	r := &ring{seal: t.known[current]}
	r.open = append(r.open, r.seal)
	for epoch, k := range t.known {
		switch {
		case epoch < current-1 || epoch > current+1:
			delete(t.known, epoch)
		case k != r.seal:
			r.open = append(r.open, k)
		}
	}
	kept := t.imported[:0]
	for _, k := range t.imported {
		if k.epoch >= current-1 && k.epoch <= current+1 {
			kept = append(kept, k)
			r.open = append(r.open, k)
		}
	}
	clear(t.imported[len(kept):])
	t.imported = kept
	t.ring.Store(r)
	return time.Unix(0, (current+1)*int64(t.rotation))
}

// The blob of a ring, big-endian:
//
//	version (1) = 1 | rotation in ns (8) | then of each key: epoch (8) | key (32)
const (
	blobVersion = 1
	blobHead    = 1 + 8
	blobKey     = 8 + keySize
	blobMost    = 64 // keys; what a peer sends is bounded
)

// Export gives every key to the next process. It is as secret as the keys are.
func (t *Tickets) Export() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	blob := binary.BigEndian.AppendUint64([]byte{blobVersion}, uint64(t.rotation))
	add := func(k *ticketKey) {
		blob = binary.BigEndian.AppendUint64(blob, uint64(k.epoch))
		blob = append(blob, k.secret[:]...)
	}
	for _, k := range t.known {
		add(k)
	}
	for _, k := range t.imported {
		add(k)
	}
	return blob
}

// errBlob is of a ring that this version cannot read; sessions then start anew.
var errBlob = errors.New("session ticket keys of an unknown form")

// Import takes the keys of the process before. With random keys and the same
// rotation both seal and open with the same keys from then on; otherwise what the
// other sealed before can be opened until it is too old.
func (t *Tickets) Import(blob []byte, now time.Time) error {
	if len(blob) < blobHead || blob[0] != blobVersion || (len(blob)-blobHead)%blobKey != 0 || len(blob) > blobHead+blobMost*blobKey {
		return errBlob
	}
	rotation := time.Duration(binary.BigEndian.Uint64(blob[1:]))
	if rotation <= 0 {
		return errBlob
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	current := t.epoch(now)
	taken := map[int64]bool{}
	for rest := blob[blobHead:]; len(rest) > 0; rest = rest[blobKey:] {
		epoch := int64(binary.BigEndian.Uint64(rest))
		k := newTicketKey(epoch, [keySize]byte(rest[8:blobKey]))
		switch {
		case rotation != t.rotation:
			k.epoch = current // until the end of our next epoch
			t.imported = append(t.imported, k)
		case t.secret == nil && !taken[epoch]:
			taken[epoch] = true
			t.known[epoch] = k
		case t.known[epoch] == nil || t.known[epoch].name != k.name:
			t.imported = append(t.imported, k)
		}
	}
	t.rotate(now)
	return nil
}

// policyTag begins our entry of SessionState.Extra, which others may share.
const policyTag = "belay policy v1\x00"

// wrap is tls.Config.WrapSession for a policy.
func (t *Tickets) wrap(policy *PolicyID, s *tls.SessionState) ([]byte, error) {
	s.Extra = append(s.Extra, append([]byte(policyTag), policy[:]...))
	session, err := s.Bytes()
	if err != nil {
		return nil, err
	}
	return t.ring.Load().seal.seal(session, policy), nil
}

// unwrap is tls.Config.UnwrapSession for a policy: (nil, nil), and so a full
// handshake, for every ticket that was not issued under it.
func (t *Tickets) unwrap(policy *PolicyID, ticket []byte) (*tls.SessionState, error) {
	if len(ticket) < keyNameSize {
		return nil, nil
	}
	for _, k := range t.ring.Load().open {
		if !bytes.Equal(k.name[:], ticket[:keyNameSize]) {
			continue
		}
		session, err := k.open(ticket, policy)
		if err != nil {
			return nil, nil
		}
		s, err := tls.ParseSessionState(session)
		if err != nil || !boundTo(s, policy) {
			return nil, nil
		}
		return s, nil
	}
	return nil, nil
}

// boundTo reports whether a session was made under a policy.
func boundTo(s *tls.SessionState, policy *PolicyID) bool {
	found := false
	for _, extra := range s.Extra {
		if rest, ok := bytes.CutPrefix(extra, []byte(policyTag)); ok {
			if !bytes.Equal(rest, policy[:]) {
				return false
			}
			found = true
		}
	}
	return found
}
