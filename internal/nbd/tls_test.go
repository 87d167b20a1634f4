package nbd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// withTLS offers STARTTLS on top of a configuration.
func withTLS(t *testing.T, cfg Config, require bool) Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	cfg.RequireTLS = require
	return cfg
}

// TestNothingBeforeTLS: where TLS is required, a client in the clear learns nothing and reaches nothing.
func TestNothingBeforeTLS(t *testing.T) {
	p := hello(t, withTLS(t, serving(newMemory(4096)), true))
	for id, data := range map[uint32][]byte{
		OptList: nil, OptInfo: goData("r0"), OptGo: goData("r0"), OptStructuredReply: nil, OptListMetaContext: metaData("r0"), 99: nil,
		OptSetMetaContext: make([]byte, maxOption+1),
	} {
		if kind, text := p.last(id, data); kind != RepErrTLSReqd || strings.Contains(text, "r0") {
			t.Errorf("option %d: %#x %q", id, kind, text)
		}
	}
	p.write(optionBytes(OptExportName, []byte("r0")))
	if err := p.ended(); err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("EXPORT_NAME in the clear: %v", err)
	}
}

// TestInjectedBeforeTLS: what somebody on the line adds behind STARTTLS is not taken for something that the client said inside TLS.
func TestInjectedBeforeTLS(t *testing.T) {
	p := hello(t, withTLS(t, serving(newMemory(4096)), true))
	p.write(optionBytes(OptStartTLS, nil), optionBytes(OptGo, goData("r0")))
	if err := p.ended(); err == nil || !strings.Contains(err.Error(), "behind STARTTLS") {
		t.Errorf("injected with STARTTLS: %v", err)
	}
	p = hello(t, withTLS(t, serving(newMemory(4096)), true))
	p.mustAck(OptStartTLS, nil)
	p.write(optionBytes(OptGo, goData("r0")))
	if err := p.ended(); err == nil || !strings.Contains(err.Error(), "TLS handshake") {
		t.Errorf("injected behind STARTTLS: %v", err)
	}
}

// TestTLSForgetsTheClear: what was agreed on in the clear, which somebody else may have said, does not hold inside TLS.
func TestTLSForgetsTheClear(t *testing.T) {
	p := hello(t, withTLS(t, serving(newMemory(4096)), false))
	p.mustAck(OptStructuredReply, nil)
	p.mustAck(OptSetMetaContext, metaData("r0", BaseAllocation))
	if kind, _ := p.last(OptStartTLS, []byte("data")); kind != RepErrInvalid {
		t.Errorf("STARTTLS with data: %#x", kind)
	}
	p.mustAck(OptStartTLS, nil)
	p.c = tls.Client(p.c, &tls.Config{InsecureSkipVerify: true})
	if kind, _ := p.last(OptStartTLS, nil); kind != RepErrInvalid {
		t.Errorf("STARTTLS inside TLS: %#x", kind)
	}
	p.mustAck(OptGo, goData("r0"))
	p.alive(false)
	p.write(requestBytes(CmdBlockStatus, 0, 1, 0, 4096))
	if a := p.answer(0); a.code != codeInvalid {
		t.Errorf("block status: %+v", a)
	}
}

// TestStuckTLSIsDropped: the time for the negotiation holds for the TLS handshake too.
func TestStuckTLSIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withTLS(t, serving(newMemory(4096)), true)
		cfg.HandshakeTimeout = 15 * time.Second
		p := hello(t, cfg)
		p.c.SetDeadline(time.Time{})
		began := time.Now()
		p.mustAck(OptStartTLS, nil)
		if err := <-p.done; err == nil {
			t.Error("no error")
		}
		if d := time.Since(began); d != 15*time.Second {
			t.Errorf("dropped after %v", d)
		}
	})
}
