package node

import (
	"crypto/tls"
	"errors"
	"fmt"

	"drship/cmd/drship/control/identity"
	"drship/wan"
)

// trust is what a node proves itself with, and whom it trusts.
type trust struct {
	stateDir    string
	certificate tls.Certificate
}

// loadTrust reads the node's identity and makes one where there is none: the link is encrypted whatever else proves who is
// at its ends.
func loadTrust(stateDir, node string) (trust, error) {
	own, err := identity.Load(stateDir)
	if errors.Is(err, identity.ErrNone) {
		if _, err := identity.Create(stateDir, node, wan.GenerateIdentity, false); err != nil {
			return trust{}, fmt.Errorf("make the node's identity: %w", err)
		}
		own, err = identity.Load(stateDir)
	}
	if err != nil {
		return trust{}, fmt.Errorf("read the node's identity: %w", err)
	}
	return trust{stateDir: stateDir, certificate: own.Certificate}, nil
}

// forLink adds the pins of drship pair to those of the configuration.
func (t trust) forLink(pins map[string][]string) (wan.Trust, error) {
	paired, err := identity.Pins(t.stateDir)
	if err != nil {
		return wan.Trust{}, fmt.Errorf("read pinned certificates: %w", err)
	}
	for peer, fps := range paired {
		pins[peer] = append(pins[peer], fps...)
	}
	return wan.Trust{Certificate: t.certificate, Pins: pins}, nil
}
