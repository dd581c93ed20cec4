package adminapi

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The paths of TLS.
const (
	PathCerts      = "/certs"
	PathTLSExplain = "/tls/explain"
)

// ConfigCertificates is the member of Client.Config that the configuration file
// does not have: kind, source, state and error of each Certificate.
const ConfigCertificates = "certificates"

// Certificate is one file, pair of files or credential that TLS needs. Nothing of
// it is secret.
type Certificate struct {
	Kind   string    `json:"kind"` // "certificate", "ca", "crl", "ticket_secret"
	Source string    `json:"source"`
	UsedBy []string  `json:"used_by"` // filter chains and clusters
	State  string    `json:"state"`   // StateWarming, StateActive, StateLastGood
	Error  string    `json:"error,omitempty"`
	Since  time.Time `json:"since"`

	// Of a certificate.
	*CertificateInfo
	Staple   string   `json:"ocsp_staple,omitempty"`
	Warnings []string `json:"warnings,omitempty"`

	Authorities []CertificateInfo `json:"authorities,omitempty"` // of a CA file
	NextUpdate  *time.Time        `json:"next_update,omitempty"` // of a CRL
}

// The states of a Certificate.
const (
	StateWarming  = "warming"   // never yet loaded; what needs it does not serve
	StateActive   = "active"    // what is in the files is in use
	StateLastGood = "last-good" // what is in the files is bad, what was there before is in use
)

// CertificateInfo is what an X.509 certificate says of itself.
type CertificateInfo struct {
	Subject   string    `json:"subject"`
	SANs      []string  `json:"sans"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"` // hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	KeyType   string    `json:"key_type"`
}

// TLSQuery is a client that does not exist.
type TLSQuery struct {
	Listener string   // "": every listener with TLS
	SNI      string   // "": none is sent
	ALPN     []string // nil: none is offered
	Source   string   // its address; "": any
	Port     uint16   // that it connects to; 0: the listener's
	TLS12    bool     // it knows nothing newer
	NoECDSA  bool     // it can use RSA only
}

func (q *TLSQuery) values() url.Values {
	v := url.Values{}
	set := func(key, value string) {
		if value != "" {
			v.Set(key, value)
		}
	}
	set("listener", q.Listener)
	set("sni", q.SNI)
	set("alpn", strings.Join(q.ALPN, ","))
	set("source", q.Source)
	if q.Port != 0 {
		v.Set("port", strconv.Itoa(int(q.Port)))
	}
	if q.TLS12 {
		v.Set("tls12", "true")
	}
	if q.NoECDSA {
		v.Set("no_ecdsa", "true")
	}
	return v
}

// TLSExplanation is what such a client would get from a listener, and why.
type TLSExplanation struct {
	Listener    string `json:"listener"`
	Chain       string `json:"chain,omitempty"` // "": none is met
	ChainWhy    string `json:"chain_why"`
	Passthrough bool   `json:"passthrough,omitempty"`
	Cluster     string `json:"cluster,omitempty"` // of a TCP listener

	// Of a chain that terminates TLS.
	State       string `json:"state,omitempty"`
	Certificate string `json:"certificate,omitempty"` // its source
	*CertificateInfo
	NameMatch         string `json:"name_match,omitempty"` // how the server name found the certificate
	Why               string `json:"why,omitempty"`        // why it is this one
	Version           string `json:"version,omitempty"`
	Protocol          string `json:"alpn,omitempty"`
	Staple            bool   `json:"ocsp_staple,omitempty"`
	ClientCertificate string `json:"client_certificate,omitempty"` // "none", "request", "require"
	ClientPolicy      string `json:"client_policy,omitempty"`      // names of one policy may share a connection

	Refused string `json:"refused,omitempty"` // why the connection ends
}

// Certificates asks for what TLS needs, by kind and source.
func (c *Client) Certificates(ctx context.Context) (list []Certificate, err error) {
	err = c.get(ctx, PathCerts, nil, &list)
	return list, err
}

// ExplainTLS asks what a client would get. An unknown listener is a ReplyError.
func (c *Client) ExplainTLS(ctx context.Context, q TLSQuery) (list []TLSExplanation, err error) {
	err = c.get(ctx, PathTLSExplain, q.values(), &list)
	return list, err
}
