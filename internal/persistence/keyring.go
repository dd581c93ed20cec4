package persistence

import (
	"bufio"
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// MaxKeyID is the highest id of a key; ids are given in a circle.
const MaxKeyID = 63

// MaxKeys bounds how many keys a ring has at a time.
const MaxKeys = 16

// KeyState is a key's place in its life:
//
//	Accept → Mint → Old → dropped
//
// A key opens tokens in every state. It must be known everywhere before anyone
// mints with it, hence Accept comes first.
type KeyState uint8

// The states of a key.
const (
	Accept KeyState = iota // opens tokens of machines that already mint with it
	Mint                   // seals new tokens; one key of a ring
	Old                    // opens tokens, which are then minted again
)

var keyStates = [...]string{"accept", "mint", "old"}

// String is the state's word in a keyring's text.
func (s KeyState) String() string {
	if int(s) < len(keyStates) {
		return keyStates[s]
	}
	return fmt.Sprintf("KeyState(%d)", uint8(s))
}

// key is immutable. Its String is all that a log or an error may show of it.
type key struct {
	id     uint8
	state  KeyState
	since  uint32 // when it entered its state, seconds since 1970; 0 is unknown
	secret [chacha20poly1305.KeySize]byte
	aead   cipher.AEAD
}

// String tells id and state, never the secret.
func (k *key) String() string { return fmt.Sprintf("key %d (%s)", k.id, k.state) }

// GoString is String, so that %#v shows no secret either.
func (k *key) GoString() string { return k.String() }

// Ring is an immutable set of keys with exactly one that mints.
type Ring struct {
	keys []*key // as in the text
	byID [MaxKeyID + 1]*key
	mint *key
}

// String lists ids and states, never a secret.
func (r *Ring) String() string {
	var list []string
	for _, k := range r.keys {
		list = append(list, k.String())
	}
	return strings.Join(list, ", ")
}

// GoString is String, so that %#v shows no secret either.
func (r *Ring) GoString() string { return r.String() }

// KeyInfo is what may be told of a key.
type KeyInfo struct {
	ID    uint8
	State KeyState
	Since time.Time // when it entered its state; zero if unknown
}

// Keys lists the keys without their secrets.
func (r *Ring) Keys() []KeyInfo {
	list := make([]KeyInfo, 0, len(r.keys))
	for _, k := range r.keys {
		info := KeyInfo{ID: k.id, State: k.state}
		if k.since > 0 {
			info.Since = time.Unix(int64(k.since), 0)
		}
		list = append(list, info)
	}
	return list
}

// newRing checks the keys and makes their ciphers.
func newRing(keys []*key) (*Ring, error) {
	r := &Ring{keys: keys}
	if len(keys) > MaxKeys {
		return nil, fmt.Errorf("%d keys, at most %d are allowed", len(keys), MaxKeys)
	}
	for _, k := range keys {
		if r.byID[k.id] != nil {
			return nil, fmt.Errorf("two keys have id %d", k.id)
		}
		r.byID[k.id] = k
		if k.state == Mint {
			if r.mint != nil {
				return nil, fmt.Errorf("keys %d and %d both mint", r.mint.id, k.id)
			}
			r.mint = k
		}
		if k.aead != nil {
			continue
		}
		aead, err := chacha20poly1305.NewX(k.secret[:])
		if err != nil {
			return nil, fmt.Errorf("key %d: unusable", k.id)
		}
		k.aead = aead
	}
	if r.mint == nil {
		return nil, errors.New("no key mints")
	}
	return r, nil
}

// newKey draws a key.
func newKey(id uint8, state KeyState, now uint32) *key {
	k := &key{id: id, state: state, since: now}
	rand.Read(k.secret[:])
	return k
}

// NewRing makes a ring of one fresh key that mints.
func NewRing(now uint32) *Ring {
	r, err := newRing([]*key{newKey(0, Mint, now)})
	if err != nil {
		panic("persistence: " + err.Error()) // one key of the right size is always a ring
	}
	return r
}

// keyringTitle is the first line of what Text writes. It is a comment: ParseRing
// does not ask for it.
const keyringTitle = "# belay persistence keyring: state, id, secret, [since]"

// ParseRing reads a keyring's text, a file or a credential:
//
//	# a comment
//	mint   1 BASE64
//	accept 2 BASE64
//	old    0 BASE64 1790000000
//
// A line has a state, an id from 0 to 63, a secret of 32 bytes in base64 (any
// of the RFC 4648 alphabets, padded or not; `openssl rand -base64 32` makes one)
// and, if it is known, since when the key is in that state, in seconds since
// 1970. Exactly one key mints. To rotate by hand, on all machines each time: add
// the new key as "accept"; then make it "mint" and the other one "old"; when
// max_age is over, remove the old one. Errors tell lines and ids, never a part
// of a secret.
func ParseRing(text []byte) (*Ring, error) {
	var keys []*key
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		k, err := parseKey(fields)
		if err != nil {
			return nil, fmt.Errorf("keyring line %d: %w", n, err)
		}
		keys = append(keys, k)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	r, err := newRing(keys)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return r, nil
}

// parseKey reads the fields of one line. No error repeats a field: a secret may
// stand in any of them by mistake.
func parseKey(fields []string) (*key, error) {
	if len(fields) < 3 || len(fields) > 4 {
		return nil, errors.New("want: state id secret [since]")
	}
	k := &key{}
	state := slices.Index(keyStates[:], fields[0])
	if state < 0 {
		return nil, errors.New("the state is none of accept, mint, old")
	}
	k.state = KeyState(state)
	id, err := strconv.ParseUint(fields[1], 10, 8)
	if err != nil || id > MaxKeyID {
		return nil, fmt.Errorf("the id is not a number from 0 to %d", MaxKeyID)
	}
	k.id = uint8(id)
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(fields[2], "="))
	secret, err := base64.RawStdEncoding.DecodeString(plain)
	if err != nil || len(secret) != len(k.secret) {
		return nil, fmt.Errorf("key %d: the secret is not %d bytes in base64", k.id, len(k.secret))
	}
	copy(k.secret[:], secret)
	if len(fields) == 4 {
		since, err := strconv.ParseUint(fields[3], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("key %d: the time is not a number of seconds", k.id)
		}
		k.since = uint32(since)
	}
	return k, nil
}

// Text writes the ring as ParseRing reads it. It holds the secrets.
func (r *Ring) Text() []byte {
	b := append([]byte(keyringTitle), '\n')
	for _, k := range r.keys {
		b = fmt.Appendf(b, "%s %d %s", k.state, k.id, base64.StdEncoding.EncodeToString(k.secret[:]))
		if k.since > 0 {
			b = fmt.Appendf(b, " %d", k.since)
		}
		b = append(b, '\n')
	}
	return b
}

// exportMagic begins a ring's blob; the digit is its version.
const exportMagic = "belay-keys-1\n"

// Export writes the ring for a successor process. It holds the secrets.
func (r *Ring) Export() []byte { return append([]byte(exportMagic), r.Text()...) }

// ImportRing reads what Export wrote, of this version only: a process that does
// not understand its parent's keys reads the keyring's file instead.
func ImportRing(blob []byte) (*Ring, error) {
	text, ok := bytes.CutPrefix(blob, []byte(exportMagic))
	if !ok {
		return nil, errors.New("keyring blob of an unknown version")
	}
	return ParseRing(text)
}

// Keyring is the ring in use. Load is for workers, at any time; whatever
// changes the ring belongs to one goroutine of the control plane.
type Keyring struct {
	ring atomic.Pointer[Ring]
}

// NewKeyring uses a ring.
func NewKeyring(r *Ring) *Keyring {
	k := &Keyring{}
	k.ring.Store(r)
	return k
}

// Load is the present ring. Take it once for each request.
func (k *Keyring) Load() *Ring { return k.ring.Load() }

// Swap puts another ring in place.
func (k *Keyring) Swap(r *Ring) { k.ring.Store(r) }
