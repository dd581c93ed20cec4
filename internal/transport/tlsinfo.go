package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"syscall"
	"time"
)

// TLSInfo is what a handshake has settled, for logs and headers.
type TLSInfo struct {
	Version          uint16
	CipherSuite      uint16
	Curve            tls.CurveID // 0: no key exchange took place
	Resumed          bool
	ServerName       string // that the client asked for
	ALPN             string
	PeerCertificates []*x509.Certificate // the peer's own first
	// VerifiedChains are those by which the peer was verified: its own certificate
	// first, an authority that we trust last. Nil if it was not by authorities.
	VerifiedChains [][]*x509.Certificate
	Duration       time.Duration // from the first byte, or the first flight of a client
}

// State is what the handshake has settled; nil before its end. It is made once,
// when first asked for.
func (t *TLS) State() *TLSInfo {
	if t.info == nil && t.flags&tlsOpen != 0 {
		s := t.conn.ConnectionState()
		t.info = &TLSInfo{
			Version: s.Version, CipherSuite: s.CipherSuite, Curve: s.CurveID, Resumed: s.DidResume,
			ServerName: s.ServerName, ALPN: s.NegotiatedProtocol, PeerCertificates: s.PeerCertificates,
			VerifiedChains: s.VerifiedChains,
			Duration:       time.Duration(t.ended - t.began),
		}
	}
	return t.info
}

// Failure is why a handshake failed. That it took too long is for the owner to
// say, who closed.
type Failure uint8

// The failures; their String is a metric's label.
const (
	FailedInternal      Failure = iota // our fault: a callback's error, say
	FailedClosed                       // the peer closed, or reset
	FailedNotTLS                       // the first bytes are no TLS
	FailedAlert                        // the peer sent Alert
	FailedVersion                      // no version in common
	FailedCipher                       // no cipher suite, group or signature in common
	FailedALPN                         // no protocol in common
	FailedName                         // no certificate for the name asked for
	FailedNoCertificate                // the client has none
	FailedCertificate                  // the peer's certificate was refused; VerifyConnection says so with a tls.CertificateVerificationError
	FailedTooLarge                     // a message or record beyond the limits
	FailedProtocol                     // the peer broke the protocol
)

var failureNames = [...]string{
	"internal", "closed", "not_tls", "alert", "version", "cipher", "alpn", "name", "no_certificate", "certificate", "too_large", "protocol",
}

func (f Failure) String() string { return failureNames[f] }

// Failures is how many there are: they are 0 to Failures-1.
const Failures = Failure(len(failureNames))

// HandshakeError is how a handshake failed.
type HandshakeError struct {
	Reason Failure
	Alert  uint8 // received with FailedAlert; else the one sent, if it was sent in clear (RFC 8446, 6.2)
	Err    error
}

func (e *HandshakeError) Error() string { return "TLS handshake: " + e.Err.Error() }

// Unwrap is crypto/tls's error.
func (e *HandshakeError) Unwrap() error { return e.Err }

func (t *TLS) newHandshakeError(err error) *HandshakeError {
	e := &HandshakeError{Reason: t.failure(err), Alert: t.alert, Err: err}
	if e.Reason == FailedAlert {
		e.Alert = alertReceived(err)
	}
	return e
}

// failure sorts errors of crypto/tls. Few have a type, so the alert that was
// sent decides, and two texts; the tests hold each row against a Go upgrade.
func (t *TLS) failure(err error) Failure {
	var notTLS tls.RecordHeaderError
	var refused *tls.CertificateVerificationError
	var op *net.OpError
	var errno syscall.Errno
	switch text := err.Error(); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &errno):
		return FailedClosed
	case errors.As(err, &op) && op.Op == "remote error":
		return FailedAlert
	case errors.As(err, &notTLS):
		return notTLSFailure(t.alert)
	case errors.As(err, &refused):
		return FailedCertificate
	case strings.Contains(text, "didn't provide a certificate"):
		return FailedNoCertificate
	case strings.Contains(text, "exceeds maximum"):
		return FailedTooLarge
	case t.alert != 0:
		return alertFailure(t.alert)
	case errors.As(err, &op): // "local error": an alert that was sent encrypted
		return alertFailure(alertReceived(err))
	}
	return FailedInternal
}

// notTLSFailure parts what crypto/tls calls a bad record header.
func notTLSFailure(sent uint8) Failure {
	if sent == alertRecordOverflow {
		return FailedTooLarge
	}
	return FailedNotTLS
}

// Alerts (RFC 8446, 6).
const (
	alertRecordOverflow        = 22
	alertHandshakeFailure      = 40
	alertBadCertificate        = 42
	alertUnknownCA             = 48
	alertProtocolVersion       = 70
	alertInappropriateFallback = 86
	alertInternalError         = 80
	alertUnrecognizedName      = 112
	alertNoApplicationProtocol = 120
)

// alertFailure is the failure behind an alert that we sent.
func alertFailure(sent uint8) Failure {
	switch {
	case sent == alertHandshakeFailure:
		return FailedCipher
	case sent == alertProtocolVersion, sent == alertInappropriateFallback:
		return FailedVersion
	case sent == alertUnrecognizedName:
		return FailedName
	case sent == alertNoApplicationProtocol:
		return FailedALPN
	case sent == alertRecordOverflow:
		return FailedTooLarge
	case sent == alertInternalError:
		return FailedInternal
	case sent >= alertBadCertificate && sent <= alertUnknownCA:
		return FailedCertificate
	}
	return FailedProtocol
}

// alertReceived digs the number out of an error whose type crypto/tls does not
// export; 0 if it is not there.
func alertReceived(err error) uint8 {
	var op *net.OpError
	if errors.As(err, &op) {
		if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
			return uint8(v.Uint())
		}
	}
	return 0
}
