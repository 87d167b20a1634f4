package config

import (
	"encoding/hex"
	"strconv"
	"strings"
)

var hostWords = []string{
	"address", "node-id", "volume", "device", "disk", "meta-disk", "flexible-meta-disk", "options", "proxy", "certificate-fingerprint", "skip",
}

// addHost keeps a host, with a bound.
func (p *parser) addHost(r *Resource, h *Host) {
	if len(r.Hosts) >= maxHosts {
		p.fail(h.Pos, "more than %d hosts in resource '%s'", maxHosts, r.Name)
		return
	}
	r.Hosts = append(r.Hosts, h)
}

// hostSection reads on NAME… { … }.
func (p *parser) hostSection(r *Resource, at Pos) {
	h := &Host{Kind: Named, Pos: at}
	h.Names = p.hostNames()
	if len(h.Names) == 0 {
		p.expected("a host name")
		return
	}
	h.Name = h.Names[0]
	for _, old := range r.Hosts {
		for _, n := range h.Names {
			if old.Kind == Named && contains(old.Names, n) {
				p.conflict("host section", r.Name+": on "+n, at, old.Pos)
			}
		}
	}
	p.addHost(r, h)
	p.hostBody(h)
}

// hostNames reads words up to the brace.
func (p *parser) hostNames() []string {
	var names []string
	for (p.tok.kind == tokWord || p.tok.kind == tokString) && len(names) < maxHosts {
		names = append(names, p.tok.text)
		p.next()
	}
	return names
}

// floatingSection reads floating ADDRESS; or floating ADDRESS { … }.
func (p *parser) floatingSection(r *Resource, at Pos) {
	h := &Host{Kind: Floating, Pos: at, addressPos: p.tok.pos}
	words := p.hostNames()
	a, err := parseAddress(words, true)
	if err != nil {
		p.badAddress(h.addressPos, err)
	}
	h.Address = a
	h.Name = a.HostPort()
	h.Names = []string{h.Name}
	p.addHost(r, h)
	if p.tok.kind == tokSemi {
		p.next()
		return
	}
	p.hostBody(h)
}

// stackedSection reads stacked-on-top-of RESOURCE { … }.
func (p *parser) stackedSection(r *Resource, at Pos) {
	names := p.hostNames()
	if len(names) != 1 {
		p.expected("the name of the lower resource")
		return
	}
	h := &Host{Kind: OnTop, Pos: at, Name: names[0], Lower: names[0]}
	r.Stacked = true
	p.addHost(r, h)
	p.hostBody(h)
}

// hostBody reads what describes a host.
func (p *parser) hostBody(h *Host) {
	seen := map[string]Pos{}
	p.block("the host's name", func(t token) {
		if t.kind != tokWord {
			p.unknown(t, "", hostWords)
			return
		}
		switch t.text {
		case "address":
			p.next()
			p.once(seen, "keyword", "address", t.pos)
			p.hostAddress(h, t.pos)
		case "node-id":
			p.next()
			p.once(seen, "keyword", "node-id", t.pos)
			p.nodeID(h)
		case "certificate-fingerprint":
			p.next()
			p.once(seen, "keyword", "certificate-fingerprint", t.pos)
			p.fingerprint(h)
		case "volume", "device", "meta-disk", "flexible-meta-disk":
			p.volumeStatement(&h.volumes, t)
		case "disk":
			p.next()
			if p.tok.kind != tokOpen {
				p.diskPath(implicitVolume(&h.volumes, t.pos), t.pos)
				return
			}
			p.once(seen, "disk section", "on "+h.Name+":disk", t.pos)
			p.optionSection("disk", &h.Written)
		case "options":
			p.next()
			p.once(seen, "options section", "on "+h.Name+":options", t.pos)
			p.optionSection("options", &h.Written)
		case "proxy":
			p.next()
			p.once(seen, "proxy section", "on "+h.Name+":proxy", t.pos)
			h.Proxy = p.proxyHost(t.pos)
		default:
			p.unknown(t, "in section 'on'", hostWords)
		}
	})
}

// hostAddress reads address [family] HOST:PORT;
func (p *parser) hostAddress(h *Host, at Pos) {
	words := p.words()
	if p.dead {
		return
	}
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.text
	}
	a, err := parseAddress(texts, true)
	if err != nil {
		pos := at
		if len(words) > 0 {
			pos = words[len(words)-1].pos
		}
		p.badAddress(pos, err)
		return
	}
	if h.Kind == Floating && !h.Address.IsZero() && a != h.Address {
		p.errorf(at, "a floating host has its address already: %s", h.Address)
		return
	}
	h.Address, h.addressPos = a, at
}

// nodeID reads node-id N;
func (p *parser) nodeID(h *Host) {
	at := p.tok.pos
	word, ok := p.oneWord("a node id")
	if !ok {
		return
	}
	n, err := strconv.ParseUint(word, 10, 16)
	if err != nil || n > maxNodeID {
		p.errorf(at, "node-id %s => out of range [0..%d]", word, maxNodeID)
		return
	}
	h.NodeID, h.hasNodeID = int(n), true
}

// fingerprint reads certificate-fingerprint "sha256:…"; colons between bytes and upper case are taken as well.
func (p *parser) fingerprint(h *Host) {
	at := p.tok.pos
	word, ok := p.oneWord("a fingerprint")
	if !ok {
		return
	}
	digits, found := strings.CutPrefix(strings.ToLower(word), "sha256:")
	digits = strings.ReplaceAll(digits, ":", "")
	raw, err := hex.DecodeString(digits)
	if !found || err != nil || len(raw) != 32 {
		p.errorf(at, "certificate-fingerprint '%s' should be sha256: and 64 hexadecimal digits, as drship keygen prints it", word)
		return
	}
	h.Fingerprint = "sha256:" + digits
}

// proxyHost reads on HOST… { inside …; outside …; } behind the word proxy.
func (p *parser) proxyHost(at Pos) *ProxyHost {
	x := &ProxyHost{Pos: at}
	if !p.tok.isWord("on") {
		p.expected("'on' behind 'proxy'")
		return x
	}
	p.next()
	x.Hosts = p.hostNames()
	p.warn(at, "proxy on "+strings.Join(x.Hosts, " ")+": drship needs no proxy; it talks to the outside addresses itself")
	p.block("the proxy's host", func(t token) {
		switch {
		case t.isWord("inside"):
			p.next()
			x.Inside = p.proxyAddress(t.pos)
		case t.isWord("outside"):
			p.next()
			x.Outside = p.proxyAddress(t.pos)
		case t.isWord("options"):
			p.next()
			p.skipStatement()
		default:
			p.unknown(t, "in section 'proxy on'", []string{"inside", "outside", "options"})
		}
	})
	if !p.dead && (x.Inside.IsZero() || x.Outside.IsZero()) {
		p.errorf(at, "proxy on %s: 'inside' or 'outside' keyword missing.", strings.Join(x.Hosts, " "))
	}
	return x
}

func (p *parser) proxyAddress(at Pos) Address {
	words := p.words()
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.text
	}
	if p.dead {
		return Address{}
	}
	a, err := parseAddress(texts, true)
	if err != nil {
		p.badAddress(at, err)
	}
	return a
}
