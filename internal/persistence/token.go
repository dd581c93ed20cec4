package persistence

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// A token is, before base64url without padding (RFC 4648 section 5):
//
//	offset  size  what
//	0       1     version (2 bits) and key id (6 bits)
//	1       24    nonce, random
//	25      24    sealed: endpoint id 8, generation 4, first seen 4, serial 4, last seen 4
//	49      16    tag of XChaCha20-Poly1305
//
// The first byte and the binding are authenticated with it. Nonces are 192 bits
// so that any number of machines can draw them at random for as long as a key
// lives (draft-irtf-cfrg-xchacha, section 3.1); 96 bits would not allow that.
const (
	tokenVersion = 1
	headSize     = 1
	nonceSize    = chacha20poly1305.NonceSizeX
	plainSize    = 24
	rawSize      = headSize + nonceSize + plainSize + chacha20poly1305.Overhead

	// TokenSize is the length of every token as text.
	TokenSize = (rawSize*8 + 5) / 6
)

// maxFuture is how far ahead, in seconds, the clock of another machine may be;
// HAProxy ignores a cookie dated more than 24 hours in the future, too.
const maxFuture = 24 * 60 * 60

var encoding = base64.RawURLEncoding.Strict()

// Verdict says what became of what the client brought.
type Verdict uint8

// The verdicts. Open returns the first seven; Unknown and Generation are the
// finding of whoever looks the endpoint up.
const (
	None       Verdict = iota // nothing was brought
	Valid                     // opened with a current key, in time
	OldKey                    // valid, but its key is on its way out: mint it again
	Invalid                   // not a token, forged, of another binding, or dated in the future
	UnknownKey                // has the form of a token, of a key that this ring does not have
	Idle                      // authentic, unused for longer than MaxIdle
	Aged                      // authentic, made longer than MaxAge ago
	Unknown                   // authentic, but no such endpoint here
	Generation                // authentic, but the endpoint is of another generation now
)

var verdicts = [...]string{"none", "valid", "old-key", "invalid", "unknown-key", "idle", "aged", "unknown", "generation"}

// String is the verdict's name in logs and counters.
func (v Verdict) String() string {
	if int(v) < len(verdicts) {
		return verdicts[v]
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// Usable tells whether the token leads to its endpoint.
func (v Verdict) Usable() bool { return v == Valid || v == OldKey }

// Endpoint names a server in tokens and tables. It is made of configured names
// and never of an address: a server that moves keeps its sessions, and another
// one at its old address inherits none.
type Endpoint struct {
	ID         uint64 // EndpointID of its cluster and its id
	Generation uint32 // changed by the operator when an id is given to another server
}

// EndpointID hashes the names of a cluster and of an endpoint in it. It needs no
// key: a token is encrypted, and all machines must agree on it. The cluster's
// builder has to see that no two of its endpoints share one.
func EndpointID(cluster, id string) uint64 {
	h := sha256.New()
	for _, s := range []string{"belay endpoint", cluster, id} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// Binding is what a token is tied to beyond its content. A token opens only
// under the binding it was sealed with. It is immutable.
type Binding struct {
	aad [headSize + sha256.Size]byte
}

// NewBinding binds tokens to a scope (a cluster, or what names a group of
// weighted clusters, whose endpoints differ by EndpointID), to the name of the
// cookie or header, and to a tenant, which may be empty.
func NewBinding(scope, name, tenant string) *Binding {
	h := sha256.New()
	for _, s := range []string{"belay token", scope, name, tenant} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	b := &Binding{}
	h.Sum(b.aad[:headSize])
	return b
}

// Limits say how long a token is good, in seconds; 0 is for ever.
type Limits struct {
	MaxIdle uint32 // since it was last minted or refreshed
	MaxAge  uint32 // since the session's first token, which refreshing does not move
	Skew    uint32 // added to both: what the clocks of several machines may differ
}

// Token is an opened token, and the room to open and seal in. It is for one
// goroutine; a worker has one and uses it over and over.
type Token struct {
	Endpoint  Endpoint
	FirstSeen uint32 // seconds since 1970
	Serial    uint32 // random; tells the sessions of one second apart
	LastSeen  uint32

	aad   [headSize + sha256.Size]byte
	raw   [rawSize + 3]byte // room for what a decoder may write past the end
	plain [plainSize]byte

	remembers bool
	cache     []opened // made when first needed
}

// opened is a token that was found authentic. Under the same ring and binding
// the same text is so again, and need not be deciphered.
type opened struct {
	ring     *Ring
	binding  *Binding
	text     [TokenSize]byte
	old      bool // its key is on its way out
	endpoint Endpoint
	first    uint32
	serial   uint32
	last     uint32
}

// cacheBits is the logarithm of how many tokens a worker remembers, some 300 KiB.
const cacheBits = 11

// NewToken makes a Token that remembers the last tokens it opened, for a worker:
// a browser sends the same one with each of its requests, and deciphering is most
// of what a request with a cookie costs. The zero Token works without.
func NewToken() *Token { return &Token{remembers: true} }

// slot is the place of a text in the cache, nil if there is no cache. The bytes
// that choose it are of the nonce, so tokens are spread.
func (t *Token) slot(text []byte) *opened {
	if t.cache == nil {
		if !t.remembers {
			return nil
		}
		t.cache = make([]opened, 1<<cacheBits)
	}
	return &t.cache[binary.LittleEndian.Uint32(text[8:])*0x9e3779b1>>(32-cacheBits)]
}

// recall fills t from the cache. Texts are compared by machine words of at least
// eight characters, so that the time it takes helps nobody to guess one.
func (t *Token) recall(o *opened, r *Ring, text []byte, b *Binding, l Limits, now uint32) (Verdict, bool) {
	if o == nil || o.ring != r || o.binding != b || string(o.text[:]) != string(text) {
		return None, false
	}
	t.Endpoint, t.FirstSeen, t.Serial, t.LastSeen = o.endpoint, o.first, o.serial, o.last
	return t.verdict(l, now, o.old), true
}

// verdict judges an authentic token and leaves no content if that is Invalid.
func (t *Token) verdict(l Limits, now uint32, old bool) Verdict {
	v := l.judge(t, now)
	switch {
	case v == Invalid:
		t.Endpoint, t.FirstSeen, t.Serial, t.LastSeen = Endpoint{}, 0, 0, 0
	case v == Valid && old:
		return OldKey
	}
	return v
}

// judge says whether an authentic token is in time.
func (l Limits) judge(t *Token, now uint32) Verdict {
	switch {
	case ahead(t.FirstSeen, now) > maxFuture || ahead(t.LastSeen, now) > maxFuture:
		return Invalid
	case l.MaxAge > 0 && uint64(ahead(now, t.FirstSeen)) > uint64(l.MaxAge)+uint64(l.Skew):
		return Aged
	case l.MaxIdle > 0 && uint64(ahead(now, t.LastSeen)) > uint64(l.MaxIdle)+uint64(l.Skew):
		return Idle
	}
	return Valid
}

// ahead is how far a is after b, 0 if it is not.
func ahead(a, b uint32) uint32 {
	if a > b {
		return a - b
	}
	return 0
}

// Refresh tells whether a good token should be minted again because more than a
// tenth of the idle time is used up. More often would put a Set-Cookie on every
// reply, less often would end sessions that are in use.
func (l Limits) Refresh(t *Token, now uint32) bool {
	return l.MaxIdle > 0 && ahead(now, t.LastSeen) > l.MaxIdle/10
}

// Remaining is for how many seconds more a client needs to keep a token made
// now, for Max-Age; 0 is for as long as it likes.
func (l Limits) Remaining(firstSeen, now uint32) uint32 {
	left := l.MaxIdle
	if l.MaxAge > 0 {
		age := ahead(now, firstSeen)
		rest := uint32(1)
		if age < l.MaxAge {
			rest = l.MaxAge - age
		}
		if left == 0 || rest < left {
			left = rest
		}
	}
	return left
}

// Open opens a token's text into t. Nothing is kept of text. When the verdict
// is Valid, OldKey, Idle or Aged, t has its content; otherwise it has none.
func (r *Ring) Open(t *Token, text []byte, b *Binding, l Limits, now uint32) Verdict {
	t.Endpoint, t.FirstSeen, t.Serial, t.LastSeen = Endpoint{}, 0, 0, 0
	if len(text) == 0 {
		return None
	}
	if len(text) != TokenSize {
		return Invalid
	}
	o := t.slot(text)
	if v, ok := t.recall(o, r, text, b, l, now); ok {
		return v
	}
	// The decoder skips line ends, hence the look at n.
	n, err := encoding.Decode(t.raw[:], text)
	if err != nil || n != rawSize || t.raw[0]>>6 != tokenVersion {
		return Invalid
	}
	k := r.byID[t.raw[0]&(MaxKeyID)]
	if k == nil {
		return UnknownKey
	}
	t.aad = b.aad
	t.aad[0] = t.raw[0]
	nonce := t.raw[headSize : headSize+nonceSize]
	if _, err := k.aead.Open(t.plain[:0], nonce, t.raw[headSize+nonceSize:rawSize], t.aad[:]); err != nil {
		return Invalid
	}
	t.Endpoint.ID = binary.BigEndian.Uint64(t.plain[0:])
	t.Endpoint.Generation = binary.BigEndian.Uint32(t.plain[8:])
	t.FirstSeen = binary.BigEndian.Uint32(t.plain[12:])
	t.Serial = binary.BigEndian.Uint32(t.plain[16:])
	t.LastSeen = binary.BigEndian.Uint32(t.plain[20:])
	if o != nil {
		*o = opened{ring: r, binding: b, old: k.state == Old, endpoint: t.Endpoint, first: t.FirstSeen, serial: t.Serial, last: t.LastSeen}
		copy(o.text[:], text)
	}
	return t.verdict(l, now, k.state == Old)
}

// OpenFirst opens candidates in their order until one is usable, which is what
// HAProxy does with several cookies of one name: a cookie that a neighbour
// domain put in front of ours does not end the session. If none is usable, the
// verdict is that of the first that is authentic, else of the first; t then has
// no content. Called again, it goes on behind the one it returned, for when its
// endpoint turned out to be unknown; None then says that there are no more.
func (r *Ring) OpenFirst(t *Token, c *Candidates, b *Binding, l Limits, now uint32) Verdict {
	verdict := None
	if c.next == 0 && c.Seen > 0 {
		verdict = Invalid
	}
	judged := false
	for c.next < c.N {
		v := r.Open(t, c.Values[c.next], b, l, now)
		c.next++
		if v.Usable() {
			return v
		}
		authentic := v == Idle || v == Aged
		if !judged || authentic && verdict != Idle && verdict != Aged {
			verdict, judged = v, true
		}
	}
	t.Endpoint, t.FirstSeen, t.Serial, t.LastSeen = Endpoint{}, 0, 0, 0
	return verdict
}

// Seal appends to dst the text of a token with the content of t, made with the
// ring's minting key. A new session has FirstSeen and LastSeen at the present
// time; a refreshed one keeps FirstSeen. t's content stays as it is.
func (r *Ring) Seal(dst []byte, t *Token, b *Binding) []byte {
	k := r.mint
	t.raw[0] = tokenVersion<<6 | k.id
	t.aad = b.aad
	t.aad[0] = t.raw[0]
	nonce := t.raw[headSize : headSize+nonceSize]
	rand.Read(nonce) // never fails: the runtime ends the process instead
	binary.BigEndian.PutUint64(t.plain[0:], t.Endpoint.ID)
	binary.BigEndian.PutUint32(t.plain[8:], t.Endpoint.Generation)
	binary.BigEndian.PutUint32(t.plain[12:], t.FirstSeen)
	binary.BigEndian.PutUint32(t.plain[16:], t.Serial)
	binary.BigEndian.PutUint32(t.plain[20:], t.LastSeen)
	k.aead.Seal(t.raw[:headSize+nonceSize], nonce, t.plain[:], t.aad[:])
	start := len(dst)
	dst = slices.Grow(dst, TokenSize)[:start+TokenSize]
	encoding.Encode(dst[start:], t.raw[:rawSize])
	return dst
}

// Session tells this session from all others, whichever of its tokens t is.
func (t *Token) Session() uint64 { return uint64(t.FirstSeen)<<32 | uint64(t.Serial) }

// Mint seals a token for an endpoint: of a new session if session is 0, else of the
// one that Session named.
func (r *Ring) Mint(dst []byte, t *Token, e Endpoint, session uint64, b *Binding, now uint32) []byte {
	t.Endpoint, t.FirstSeen, t.Serial, t.LastSeen = e, uint32(session>>32), uint32(session), now
	if session == 0 {
		t.FirstSeen = now
		serial := t.raw[:4] // Seal overwrites it
		rand.Read(serial)
		t.Serial = binary.BigEndian.Uint32(serial)
	}
	return r.Seal(dst, t, b)
}
