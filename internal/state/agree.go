package state

import (
	"fmt"
	"slices"
	"strings"
)

// policySetting is one setting of Policies: its values in the order of their numbers on the wire, which never change.
type policySetting struct {
	name   string
	get    func(p *Policies) string
	values []string
}

var policySettings = []policySetting{
	{"after-sb-0pri", func(p *Policies) string { return p.AfterSB0 }, []string{Disconnect, DiscardYoungerPrimary, DiscardOlderPrimary,
		DiscardZeroChanges, DiscardLeastChanges, DiscardLocal, DiscardRemote}},
	{"after-sb-1pri", func(p *Policies) string { return p.AfterSB1 }, []string{Disconnect, Consensus, ViolentlyAs0P, DiscardSecondary, CallPriLostAfterSB}},
	{"after-sb-2pri", func(p *Policies) string { return p.AfterSB2 }, []string{Disconnect, ViolentlyAs0P, CallPriLostAfterSB}},
	{"rr-conflict", func(p *Policies) string { return p.RRConflict }, []string{Disconnect, Violently, CallPriLost, RetryConnect, AutoDiscard}},
	{"always-asbp", func(p *Policies) string {
		if p.AlwaysASBP {
			return "yes"
		}
		return "no"
	}, []string{"no", "yes"}},
}

// Word packs the policies into what a side says of them in a handshake: one byte a setting, the first lowest. A value
// that a setting does not have is 255, which agrees with nothing.
func (p Policies) Word() uint64 {
	var w uint64
	for i, s := range policySettings {
		w |= uint64(s.number(s.get(&p))) << (8 * i)
	}
	return w
}

func (s *policySetting) number(value string) uint8 {
	if value == "" {
		return 0
	}
	if i := slices.Index(s.values, value); i >= 0 {
		return uint8(i)
	}
	return 255
}

func (s *policySetting) value(number uint8) string {
	if int(number) < len(s.values) {
		return s.values[number]
	}
	return fmt.Sprintf("a value unknown here (%d)", number)
}

// Disagreement holds these policies against the peer's word, and says which settings differ; "" where none does. Both sides decide a
// handshake on their own, so that they must go by the same rules: what is local here is remote there.
func (p Policies) Disagreement(peer uint64) string {
	own := p.Mirror() // as the peer would have to write it
	var differ []string
	for i, s := range policySettings {
		theirs := uint8(peer >> (8 * i))
		if n := s.number(s.get(&own)); n != theirs || n == 255 {
			differ = append(differ, fmt.Sprintf("incompatible %s settings (%s here, %s at the peer)", s.name, s.value(s.number(s.get(&p))), s.value(theirs)))
		}
	}
	if rest := peer >> (8 * len(policySettings)); rest != 0 {
		differ = append(differ, "the peer has a policy that this version does not know")
	}
	return strings.Join(differ, "; ")
}
