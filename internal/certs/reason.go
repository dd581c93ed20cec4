package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// Reason says why a peer was refused; few enough for a metric's label.
type Reason uint8

// The reasons.
const (
	ReasonNone             Reason = iota // not a refusal by certificate
	ReasonNoCertificate                  // none was given and one is required
	ReasonUnknownAuthority               // no chain to a trusted certificate
	ReasonExpired                        // a certificate of the chain is past its notAfter
	ReasonNotYetValid                    // or before its notBefore
	ReasonName                           // the server's certificate is for another name
	ReasonSAN                            // no subject alternative name matches
	ReasonPin                            // no pin matches
	ReasonRevoked                        // on a CRL
	ReasonCRL                            // no current CRL says whether it is revoked
	ReasonInvalid                        // anything else: unparsable, wrong usage, bad signature
	reasonCount
)

var reasonNames = [reasonCount]string{
	"none", "no_certificate", "unknown_authority", "expired", "not_yet_valid", "name", "san", "pin", "revoked", "crl", "invalid",
}

func (r Reason) String() string {
	if r >= reasonCount {
		return fmt.Sprintf("Reason(%d)", uint8(r))
	}
	return reasonNames[r]
}

// Reasons lists every reason, for metrics that exist before the first refusal.
func Reasons() []Reason {
	list := make([]Reason, reasonCount)
	for i := range list {
		list[i] = Reason(i)
	}
	return list
}

// Refusal is the error of a peer whose certificate the policy refuses.
type Refusal struct {
	Reason Reason
	Err    error // what exactly
}

func (r *Refusal) Error() string { return "certificate refused: " + r.Err.Error() }

// Unwrap gives the cause.
func (r *Refusal) Unwrap() error { return r.Err }

func refuse(reason Reason, format string, args ...any) error {
	return &Refusal{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// noCertificate is the text of the one error that crypto/tls gives no type; a
// test holds it to the installed Go.
const noCertificate = "tls: client didn't provide a certificate"

// ReasonOf classifies the error of a handshake, on either side; ReasonNone if
// our verification of the peer's certificate had no part in it.
func ReasonOf(err error) Reason {
	if err == nil {
		return ReasonNone
	}
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal.Reason
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return ReasonUnknownAuthority
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return ReasonName
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch {
		case invalid.Reason != x509.Expired:
			return ReasonInvalid
		case strings.Contains(invalid.Detail, "is before"): // one code for both; a test holds the text to the installed Go
			return ReasonNotYetValid
		}
		return ReasonExpired
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return ReasonInvalid
	}
	if err.Error() == noCertificate {
		return ReasonNoCertificate
	}
	return ReasonNone
}
