package config

import "strconv"

const (
	maxConnections = 1024
	maxPaths       = 16
)

// connectionSection reads connection [NAME] { host …; host …; … }.
func (p *parser) connectionSection(r *Resource, at Pos) {
	c := &Connection{Pos: at, Volumes: map[uint16]Written{}}
	if p.tok.kind == tokWord || p.tok.kind == tokString {
		p.keep(&c.Written.Net, Setting{Name: "_name", Value: p.tok.text, Pos: p.tok.pos})
		p.next()
	}
	p.addConnection(r, c)
	seen := map[string]Pos{}
	p.block("'connection'", func(t token) {
		switch {
		case t.isWord("host"):
			p.next()
			c.Ends = append(c.Ends, p.endpoint(t.pos))
			if len(c.Ends) > 2 {
				p.fail(t.pos, "a connection has two hosts")
			}
		case t.isWord("path"):
			p.next()
			p.path(c, t.pos)
		case t.isWord("volume"):
			p.next()
			p.connectionVolume(c, t.pos)
		case t.isWord("net"), t.isWord("disk"), t.isWord("wan"):
			p.next()
			p.once(seen, t.text+" section", "connection:"+t.text, t.pos)
			p.optionSection(t.text, &c.Written)
		default:
			p.unknown(t, "in section 'connection'", []string{"host", "path", "net", "disk", "wan", "volume", "skip"})
		}
	})
	if p.dead {
		return
	}
	if len(c.Paths) > 0 && len(c.Ends) > 0 {
		p.errorf(at, "a connection has either two hosts or path sections")
	}
	if len(c.Paths) == 0 && len(c.Ends) != 2 {
		p.errorf(at, "a connection needs two 'host' keywords, or path sections that hold them")
	}
}

func (p *parser) addConnection(r *Resource, c *Connection) {
	if len(r.Connections) >= maxConnections {
		p.fail(c.Pos, "more than %d connections in resource '%s'", maxConnections, r.Name)
		return
	}
	r.Connections = append(r.Connections, c)
}

// endpoint reads NAME [address [family] A[:PORT]] [port N] [via proxy on …] and what ends it.
func (p *parser) endpoint(at Pos) Endpoint {
	e := Endpoint{Pos: at, Host: p.tok.text}
	if p.tok.kind != tokWord && p.tok.kind != tokString {
		p.expected("a host name")
		return e
	}
	p.next()
	for p.tok.kind == tokWord {
		keyword := p.tok
		p.next()
		switch keyword.text {
		case "address":
			p.endpointAddress(&e)
		case "port":
			n, err := strconv.ParseUint(p.tok.text, 10, 16)
			if err != nil || n == 0 {
				p.errorf(p.tok.pos, "port '%s' is out of range [1..65535]", p.tok.text)
			}
			e.Port = uint16(n)
			p.next()
		case "via":
			if !p.tok.isWord("proxy") {
				p.expected("'proxy'")
				return e
			}
			p.next()
			e.Proxy = p.proxyHost(keyword.pos)
			if p.tok.kind != tokSemi { // the brace may end the statement
				return e
			}
		default:
			p.fail(keyword.pos, "'address | port | via | ;' expected behind the host's name, but got %s", keyword.describe())
			return e
		}
	}
	if p.tok.kind != tokSemi {
		p.expected("';'")
		return e
	}
	p.next()
	return e
}

// endpointAddress reads [family] A[:PORT].
func (p *parser) endpointAddress(e *Endpoint) {
	at := p.tok.pos
	words := []string{p.tok.text}
	if p.tok.isWord("ipv4") || p.tok.isWord("ipv6") || p.tok.isWord("sdp") || p.tok.isWord("ssocks") || p.tok.isWord("sci") {
		p.next()
		words = append(words, p.tok.text)
	}
	if p.tok.kind != tokWord && p.tok.kind != tokString {
		p.expected("an address")
		return
	}
	p.next()
	a, err := parseAddress(words, false)
	if err != nil {
		p.badAddress(at, err)
	}
	e.Address = a
}

// path reads path { host …; host …; }.
func (p *parser) path(c *Connection, at Pos) {
	var ends []Endpoint
	p.block("'path'", func(t token) {
		if !t.isWord("host") {
			p.unknown(t, "in section 'path'", []string{"host", "skip"})
			return
		}
		p.next()
		if ends = append(ends, p.endpoint(t.pos)); len(ends) > 2 {
			p.fail(t.pos, "a path has two hosts")
		}
	})
	if p.dead {
		return
	}
	if len(ends) != 2 {
		p.errorf(at, "a path needs two 'host' keywords")
		return
	}
	if len(c.Paths) >= maxPaths {
		p.fail(at, "more than %d paths in a connection", maxPaths)
		return
	}
	c.Paths = append(c.Paths, [2]Endpoint{ends[0], ends[1]})
}

// connectionVolume reads volume N { disk { … } } of a connection.
func (p *parser) connectionVolume(c *Connection, at Pos) {
	n, err := strconv.ParseUint(p.tok.text, 10, 16)
	if err != nil || n > maxVolumeNr {
		p.failAt(p.tok, notInteger(p.tok.text), "a volume number expected, but got %s", p.tok.describe())
		return
	}
	p.next()
	number := uint16(n)
	w, twice := c.Volumes[number]
	if twice {
		p.errorf(at, "volume %d stands twice in the connection", number)
	} else {
		c.order = append(c.order, number)
	}
	p.block("the volume's number", func(t token) {
		if !t.isWord("disk") {
			p.unknown(t, "in a connection's 'volume'", []string{"disk", "skip"})
			return
		}
		p.next()
		p.optionSection("disk", &w)
	})
	c.Volumes[number] = w
}

// meshSection reads connection-mesh { hosts …; net { … } }.
func (p *parser) meshSection(r *Resource, at Pos) {
	c := &Connection{Mesh: true, Pos: at}
	p.addConnection(r, c)
	p.block("'connection-mesh'", func(t token) {
		switch {
		case t.isWord("hosts"):
			p.next()
			for _, w := range p.words() {
				c.Hosts = append(c.Hosts, w.text)
			}
		case t.isWord("net"), t.isWord("wan"), t.isWord("disk"):
			p.next()
			p.optionSection(t.text, &c.Written)
		default:
			p.unknown(t, "in section 'connection-mesh'", []string{"hosts", "net", "wan", "disk", "skip"})
		}
	})
	if !p.dead && len(c.Hosts) < 2 {
		p.errorf(at, "a connection-mesh needs the keyword 'hosts' with at least two names")
	}
}
