package link

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"drship/bench/pair"
	"drship/bench/pair/pairtest"
	"drship/bench/relay"
)

// refused checks that a pair never comes together: alice serves all the same, and bob's disk is not touched.
func refused(t *testing.T, p *pair.Pair, resourceOfBob, why string) {
	t.Helper()
	ctx := pairtest.Real(t)
	alice, bob := p.Node("alice"), p.Node("bob")
	if err := p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	for n, r := range map[*pair.Node]string{alice: pair.Resource, bob: resourceOfBob} {
		for _, verb := range []string{"create-md", "up"} {
			if _, err := n.Verb(ctx, verb, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := alice.Promote(ctx, "--force"); err != nil {
		t.Fatal(err)
	}
	l := startLoad(ctx, t, alice, 0)
	until(ctx, t, "the refusal to be reported", func() bool { return reported(t, p, why) })
	l.progress(ctx, 500)
	l.stop()
	s, err := alice.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s.Connected() {
		t.Errorf("alice is connected: %v", s)
	}
	for i, b := range disk(t, bob) {
		if b != 0 {
			t.Fatalf("byte %d of bob's disk was changed by a peer that is not his", i)
		}
	}
}

// reported looks for a word in the log of either node: the side that refuses says why.
func reported(t *testing.T, p *pair.Pair, word string) bool {
	t.Helper()
	for _, n := range p.Nodes {
		if strings.Contains(strings.ToLower(n.Log()), word) {
			return true
		}
	}
	return false
}

// change makes bob's configuration differ from alice's.
func change(old, with string) func(string, string, string) string {
	return func(node, _, text string) string {
		if node == "bob" {
			return strings.Replace(text, old, with, 1)
		}
		return text
	}
}

// TestWrongSecret: nothing passes between two that do not share the secret; with the right one they sync.
func TestWrongSecret(t *testing.T) {
	ctx := pairtest.Real(t)
	bobs := "a wrong one"
	p := pairtest.New(t, pair.Options{Secret: "the right one", Adjust: func(node, r, text string) string {
		return change("the right one", bobs)(node, r, text)
	}})
	bob := p.Node("bob")
	refused(t, p, pair.Resource, "secret")
	bobs = "the right one"
	if err := bob.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	if err := bob.Terminate(); err != nil {
		t.Fatal(err)
	}
	if err := bob.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := bob.Up(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestOtherResource: a peer with the right secret and another resource is refused.
func TestOtherResource(t *testing.T) {
	pairtest.Real(t)
	p := pairtest.New(t, pair.Options{Adjust: change("resource r0", "resource r9")})
	refused(t, p, "r9", "resource")
}

// TestNoAuthentication: a configuration without a way to trust the peer is refused, unless it says so in so many words.
func TestNoAuthentication(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.New(t, pair.Options{Auth: []string{}})
	if err := p.Create(ctx); err == nil {
		t.Error("a pair came up without any authentication configured")
	} else if !strings.Contains(err.Error(), "authentication") {
		t.Errorf("the refusal does not say that authentication is missing: %v", err)
	}
	open := pairtest.Up(ctx, t, pair.Options{Auth: []string{"allow-unauthenticated yes"}})
	settle(ctx, t, open, nil)
}

// TestWrongCertificate: pinned certificates connect the right pair and nobody else.
func TestWrongCertificate(t *testing.T) {
	ctx := pairtest.Real(t)
	p := pairtest.New(t, pair.Options{Auth: []string{}})
	prints := map[string]string{}
	for _, n := range p.Nodes {
		out, err := n.Verb(ctx, "keygen")
		if err != nil {
			t.Fatal(err)
		}
		if prints[n.Name] = fingerprint(out); prints[n.Name] == "" {
			t.Fatalf("keygen of %s prints no fingerprint: %q", n.Name, out)
		}
	}
	pin := func(n *pair.Node, peer, print string) {
		if _, err := n.Verb(ctx, "pair", peer, print); err != nil {
			t.Fatal(err)
		}
	}
	wrong := strings.Repeat("0", 8) + prints["bob"][len("sha256:")+8:]
	pin(p.Node("alice"), "bob", "sha256:"+wrong)
	pin(p.Node("bob"), "alice", prints["alice"])
	refused(t, p, pair.Resource, "certificate")
	for _, n := range p.Nodes {
		if err := n.Terminate(); err != nil {
			t.Fatal(err)
		}
	}
	pin(p.Node("alice"), "bob", prints["bob"])
	if err := p.StartAll(ctx); err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Nodes {
		if err := n.Up(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
}

// fingerprint finds the certificate's in what keygen prints.
func fingerprint(out string) string {
	for word := range strings.FieldsSeq(out) {
		if rest, ok := strings.CutPrefix(word, "sha256:"); ok && len(rest) >= 64 {
			return word
		}
	}
	return ""
}

// TestReplayedHandshake sends bob everything again that alice ever sent, from elsewhere and after her end: he takes none of it.
func TestReplayedHandshake(t *testing.T) {
	ctx := pairtest.Real(t)
	var mu sync.Mutex
	var recorded [][]byte
	p := pairtest.Up(ctx, t, pair.Options{Link: &relay.Link{}, Tap: func(d relay.Direction, data []byte) {
		mu.Lock()
		defer mu.Unlock()
		if d == relay.AtoB && len(recorded) < 20_000 {
			recorded = append(recorded, append([]byte(nil), data...))
		}
	}})
	alice, bob := p.Node("alice"), p.Node("bob")
	l := startLoad(ctx, t, alice, 5*time.Millisecond)
	l.progress(ctx, 500)
	ops := l.stop()
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	tape := recorded
	mu.Unlock()
	replay(t, p, tape)
	if err := p.WaitUpToDate(ctx); err != nil {
		t.Fatal(err)
	}
	if err := alice.Kill(); err != nil {
		t.Fatal(err)
	}
	wait(ctx, t, bob, "alice to be missed", apart)
	replay(t, p, tape)
	if s := wait(ctx, t, bob, "a status", func(pair.Status) bool { return true }); s.Connected() || !s.UpToDate() {
		t.Errorf("a replay changed bob: %v", s)
	}
	if err := alice.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := alice.Up(ctx); err != nil {
		t.Fatal(err)
	}
	settle(ctx, t, p, ops)
}

// replay sends recorded datagrams to where bob really listens.
func replay(t *testing.T, p *pair.Pair, tape [][]byte) {
	t.Helper()
	if len(tape) == 0 {
		t.Fatal("nothing was recorded")
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.Address("bob")))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, d := range tape {
		if _, err := c.Write(d); err != nil {
			t.Fatal(err)
		}
	}
}
