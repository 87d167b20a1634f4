package wan

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"drship/wan/frame"
)

func TestIdentity(t *testing.T) {
	certPEM, keyPEM, fp, err := GenerateIdentity("alice")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil || cert.Subject.CommonName != "alice" || fingerprintOf(cert.Raw) != fp {
		t.Errorf("%v, %v", cert.Subject, err)
	}
	if !bytes.Contains(keyPEM, []byte("PRIVATE KEY")) {
		t.Error("no key")
	}
	if _, _, other, _ := GenerateIdentity("alice"); other == fp {
		t.Error("two identities are the same")
	}
	if _, _, _, err := GenerateIdentity(""); err == nil {
		t.Error("an identity without a name")
	}
	digits := strings.TrimPrefix(fp, "sha256:")
	var colons []string
	for i := 0; i < len(digits); i += 2 {
		colons = append(colons, strings.ToUpper(digits[i:i+2]))
	}
	for _, s := range []string{fp, digits, strings.Join(colons, ":"), "SHA256:" + digits + " "} {
		if got, err := ParseFingerprint(s); got != fp || err != nil {
			t.Errorf("ParseFingerprint(%q) = %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "sha256:", digits[2:], digits + "00", "z" + digits[1:]} {
		if got, err := ParseFingerprint(s); err == nil {
			t.Errorf("ParseFingerprint(%q) = %q", s, got)
		}
	}
}

// Pins of one peer do not let it in under another's name.
func TestPinsBelongToNames(t *testing.T) {
	certPEM, _, fp, err := GenerateIdentity("bob")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	tr := Trust{Pins: map[string][]string{"bob": {fp}, "carol": {fingerprintOf(nil)}}}
	cs := tlsState(cert)
	if err := tr.checkPin("bob", cs); err != nil {
		t.Error(err)
	}
	if err := tr.checkAnyPin(cs); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"carol's name":   tr.checkPin("carol", cs),
		"no certificate": tr.checkPin("bob", tlsState()),
		"nobody":         tr.checkAnyPin(tlsState()),
		"unknown":        Trust{Pins: map[string][]string{"carol": {fingerprintOf(nil)}}}.checkAnyPin(cs),
	} {
		if !errors.Is(err, ErrAuth) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPulse(t *testing.T) {
	timing := Timing{PingInt: 10 * time.Second, PingTimeout: 500 * time.Millisecond, Timeout: 6 * time.Second}
	t0 := time.Unix(1000, 0)
	p := newPulse(timing, t0)
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	for i, c := range []struct {
		at             float64
		received, sent uint64
		striped        uint64
		rtt            time.Duration
		ask            bool
		silent         time.Duration
	}{
		{0, 5, 7, 0, 0, false, 0},
		{9.9, 5, 7, 0, 0, false, 0},
		{10, 5, 7, 0, 0, true, 0},                           // idle for ping-int
		{10.4, 5, 8, 0, 0, false, 0},                        // not yet
		{10.45, 6, 8, 0, 0, false, 0},                       // answered
		{15.9, 6, 9, 0, 0, false, 0},                        // something was sent at once
		{15.95, 6, 9, 0, 0, true, 0},                        // silence while an answer is due: asked before timeout
		{16.5, 6, 10, 0, 100 * time.Millisecond, false, 0},  // three round trips are added
		{16.75, 6, 10, 3, 100 * time.Millisecond, false, 0}, // something came over a stripe: the answer may be late
		{17.5, 6, 10, 3, 100 * time.Millisecond, false, 0},
		{17.55, 6, 10, 3, 100 * time.Millisecond, false, 7100e6}, // given up
	} {
		ask, silent := p.step(at(c.at), c.received, c.striped, c.sent, c.rtt)
		if ask != c.ask || silent != c.silent {
			t.Errorf("step %d: ask %v, silent %v", i, ask, silent)
		}
	}
}

func TestBackoffGrows(t *testing.T) {
	b := newBackoff(10 * time.Second)
	now := time.Unix(0, 0)
	within := func(want time.Duration) {
		t.Helper()
		if got := b.notBefore.Sub(now); got < want*3/4 || got > want*5/4 {
			t.Errorf("pause of %v, want about %v", got, want)
		}
	}
	for _, want := range []time.Duration{100e6, 200e6, 400e6, 800e6, 1600e6, 3200e6, 6400e6, 10e9, 10e9} {
		b.failed(now, false)
		within(want)
	}
	for range 100 {
		b.failed(now, false)
	}
	within(10 * time.Second)
	for _, want := range []time.Duration{10e9, 20e9, 30e9, 40e9, 50e9, 60e9, 60e9} {
		b.failed(now, true)
		within(want)
	}
	b.ended(now, time.Millisecond)
	within(10 * time.Second) // a session that did not last changes nothing
	b.ended(now, time.Minute)
	within(firstPause)
}

func TestVerdict(t *testing.T) {
	self, peer, before := instanceID{1}, instanceID{2}, instanceID{3}
	live := &Session{serial: 5, peerInstance: peer}
	dead := &Session{serial: 5, peerInstance: peer, err: ErrClosed}
	for name, c := range map[string]struct {
		cur   *Session
		inst  instanceID
		h     held
		young bool
		keep  bool
	}{
		"the peer was restarted":         {live, before, held{self, 5, true}, true, false},
		"our session is dead":            {dead, peer, held{self, 5, true}, true, false},
		"the peer holds it":              {live, peer, held{self, 5, true}, false, true},
		"the peer lost it":               {live, peer, held{self, 5, false}, true, false},
		"Go is under way":                {live, peer, held{self, 4, true}, true, true},
		"Go never came":                  {live, peer, held{self, 4, false}, false, false},
		"the peer heard of nothing":      {live, peer, held{}, true, true},
		"the peer speaks of our past":    {live, peer, held{before, 9, true}, true, true},
		"the peer holds a later, denied": {live, peer, held{self, 6, true}, false, false},
	} {
		err := verdict(c.cur, self, c.inst, c.h, c.young)
		if (err != nil) != c.keep || err != nil && !errors.Is(err, errDuplicate) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReachable(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	for local, want := range map[string][2]bool{"[::]:1": {true, true}, "0.0.0.0:1": {true, false}, "127.0.0.1:1": {true, false}, "[::1]:1": {false, true}} {
		a := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(local))
		if got := [2]bool{reachable(a, v4), reachable(a, v6)}; got != want {
			t.Errorf("%s: %v, want %v", local, got, want)
		}
	}
}

func TestCloseTextIsHarmless(t *testing.T) {
	got := printable("a\x1b[31m\n\xff" + strings.Repeat("x", 500))
	if strings.ContainsAny(got, "\x1b\n") || !utf8.ValidString(got) || len(got) > maxCloseText+8 {
		t.Errorf("%q", got)
	}
	for _, c := range codes {
		if codeOf(c.err) != c.code {
			t.Errorf("%v has code %d, want %d", c.err, codeOf(c.err), c.code)
		}
	}
}

func sampleHello() *hello {
	return &hello{minVersion: frame.Version, maxVersion: frame.Version, instance: instanceID{9}, nonce: [32]byte{8}, resource: "r0", node: "alice", peer: "bob", alg: "sha1"}
}

func TestHandshakeMessages(t *testing.T) {
	h := sampleHello()
	b := h.append(nil)
	if got, err := decodeHello(b); err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("%+v, %v", got, err)
	}
	long := *h
	long.resource, long.node, long.peer = strings.Repeat("r", maxName), strings.Repeat("a", maxName), strings.Repeat("b", maxName)
	if b := long.append(nil); len(b) > maxHandshake {
		t.Errorf("a Hello of %d bytes", len(b))
	}
	for n := range b {
		if n == 6 {
			continue // so far it is one of a version that this side does not speak, if its versions said so
		}
		if got, err := decodeHello(b[:n]); !errors.Is(err, errHandshake) {
			t.Errorf("cut to %d: %+v, %v", n, got, err)
		}
	}
	p := &proof{mac: []byte("mac"), held: held{arbiter: instanceID{7}, serial: 1 << 60, alive: true}}
	pb := p.append(nil)
	if got, err := decodeProof(pb); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range pb {
		if _, err := decodeProof(pb[:n]); !errors.Is(err, errHandshake) {
			t.Errorf("proof cut to %d: %v", n, err)
		}
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add(append([]byte{kindHello, 0, 0}, sampleHello().append(nil)...))
	f.Add(append([]byte{kindProof, 0, 28}, (&proof{mac: []byte("mac")}).append(nil)...))
	f.Add([]byte{kindGo, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		for kind := kindHello; kind <= kindGo; kind++ {
			body, err := readMessage(bytes.NewReader(b), kind)
			if err != nil {
				continue
			}
			checkDecoders(t, body)
		}
		checkDecoders(t, b)
	})
}

// checkDecoders: what decodes encodes as the same bytes again, and names are fit to print.
func checkDecoders(t *testing.T, body []byte) {
	if h, err := decodeHello(body); err == nil && h.node != "" {
		if again := h.append(nil); !bytes.Equal(again, body) {
			t.Fatalf("Hello %x encodes as %x", body, again)
		}
		if err := validName("node", h.node); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := decodeProof(body); err == nil {
		if again := p.append(nil); !bytes.Equal(again, body) {
			t.Fatalf("Proof %x encodes as %x", body, again)
		}
	}
}

func tlsState(certs ...*x509.Certificate) tls.ConnectionState {
	return tls.ConnectionState{PeerCertificates: certs}
}
