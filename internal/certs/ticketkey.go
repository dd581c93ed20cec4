package certs

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strconv"
)

// A ticket on the wire:
//
//	key name (16) | nonce (24) | AES-256-GCM of the session under a key for this
//	nonce alone, the name and the policy authenticated with it
//
// The key of one ticket comes from the ring's key and the nonce as in
// XAES-256-GCM (C2SP), so that random nonces have no limit worth counting: one
// key serves every machine of a fleet for half a day.
const (
	keyNameSize = 16
	nonceSize   = 24
	keySize     = 32
)

// ticketKey seals the tickets of one epoch.
type ticketKey struct {
	epoch  int64
	secret [keySize]byte
	name   [keyNameSize]byte
	block  cipher.Block
	k1     [aes.BlockSize]byte // CMAC subkey
}

func newTicketKey(epoch int64, secret [keySize]byte) *ticketKey {
	k := &ticketKey{epoch: epoch, secret: secret}
	sum := sha256.Sum256(append([]byte("belay ticket key name"), secret[:]...))
	copy(k.name[:], sum[:])
	k.block, _ = aes.NewCipher(secret[:]) // 32 bytes are always a key
	k.block.Encrypt(k.k1[:], k.k1[:])
	var carry byte
	for i := len(k.k1) - 1; i >= 0; i-- {
		k.k1[i], carry = k.k1[i]<<1|carry, k.k1[i]>>7
	}
	k.k1[len(k.k1)-1] ^= carry * 0x87
	return k
}

// aead gives the cipher of one nonce; its own nonce is the last 12 bytes.
func (k *ticketKey) aead(nonce []byte) cipher.AEAD {
	var derived [keySize]byte
	for i := range 2 {
		m := derived[i*aes.BlockSize : (i+1)*aes.BlockSize]
		m[1], m[2] = byte(i+1), 'X'
		copy(m[4:], nonce[:12])
		for j := range m {
			m[j] ^= k.k1[j]
		}
		k.block.Encrypt(m, m)
	}
	block, _ := aes.NewCipher(derived[:]) // 32 bytes are always a key
	aead, _ := cipher.NewGCM(block)       // AES always fits
	return aead
}

// seal makes a ticket of a session.
func (k *ticketKey) seal(session []byte, policy *PolicyID) []byte {
	ticket := make([]byte, keyNameSize+nonceSize, keyNameSize+nonceSize+len(session)+16)
	copy(ticket, k.name[:])
	nonce := ticket[keyNameSize:]
	_, _ = rand.Read(nonce) // never fails
	return k.aead(nonce).Seal(ticket, nonce[12:], session, associated(k, policy))
}

var errTicket = errors.New("not a ticket of this key and policy")

func (k *ticketKey) open(ticket []byte, policy *PolicyID) ([]byte, error) {
	if len(ticket) < keyNameSize+nonceSize {
		return nil, errTicket
	}
	nonce := ticket[keyNameSize : keyNameSize+nonceSize]
	return k.aead(nonce).Open(nil, nonce[12:], ticket[keyNameSize+nonceSize:], associated(k, policy))
}

func associated(k *ticketKey, policy *PolicyID) []byte {
	return append(k.name[:len(k.name):len(k.name)], policy[:]...)
}

// derive gives the key of an epoch to everyone who has the secret.
func derive(secret []byte, epoch int64) (key [keySize]byte) {
	out, _ := hkdf.Key(sha256.New, secret, []byte("belay session tickets v1"), strconv.FormatInt(epoch, 10), keySize) // the length is legal
	copy(key[:], out)
	return key
}

func random() (key [keySize]byte) {
	_, _ = rand.Read(key[:]) // never fails
	return key
}
