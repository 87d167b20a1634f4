package state

import (
	"strings"
	"testing"
)

func TestDisagreement(t *testing.T) {
	zero := func(v string) Policies { return Policies{AfterSB0: v} }
	for name, c := range map[string]struct {
		self, peer Policies
		want       string // in the answer; "" for agreement
	}{
		"defaults":                  {Policies{}, Policies{}, ""},
		"default written out":       {Policies{AfterSB0: Disconnect, RRConflict: Disconnect}, Policies{}, ""},
		"same":                      {Policies{AfterSB0: DiscardZeroChanges, AfterSB1: Consensus, AfterSB2: ViolentlyAs0P, RRConflict: RetryConnect, AlwaysASBP: true}, Policies{AfterSB0: DiscardZeroChanges, AfterSB1: Consensus, AfterSB2: ViolentlyAs0P, RRConflict: RetryConnect, AlwaysASBP: true}, ""},
		"local here, remote there":  {zero(DiscardLocal), zero(DiscardRemote), ""},
		"remote here, local there":  {zero(DiscardRemote), zero(DiscardLocal), ""},
		"both would give way":       {zero(DiscardLocal), zero(DiscardLocal), "after-sb-0pri settings (discard-local here, discard-local at the peer)"},
		"0pri":                      {zero(DiscardZeroChanges), Policies{}, "after-sb-0pri settings (discard-zero-changes here, disconnect at the peer)"},
		"1pri":                      {Policies{}, Policies{AfterSB1: DiscardSecondary}, "after-sb-1pri settings (disconnect here, discard-secondary at the peer)"},
		"2pri":                      {Policies{AfterSB2: CallPriLostAfterSB}, Policies{}, "after-sb-2pri"},
		"rr-conflict":               {Policies{RRConflict: Violently}, Policies{RRConflict: CallPriLost}, "rr-conflict"},
		"always-asbp":               {Policies{AlwaysASBP: true}, Policies{}, "always-asbp settings (yes here, no at the peer)"},
		"unknown value on one side": {zero("discard-everything"), zero("discard-everything"), "after-sb-0pri"},
	} {
		t.Run(name, func(t *testing.T) {
			got, back := c.self.Disagreement(c.peer.Word()), c.peer.Disagreement(c.self.Word())
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if (got == "") != (back == "") {
				t.Errorf("one side says %q, the other %q", got, back)
			}
		})
	}
	if got := (Policies{}).Disagreement(1 << 60); got == "" {
		t.Error("a policy from the future was taken for agreed")
	}
}

// TestPolicyWord holds the numbers of the wire: they never change.
func TestPolicyWord(t *testing.T) {
	p := Policies{AfterSB0: DiscardLeastChanges, AfterSB1: DiscardSecondary, AfterSB2: CallPriLostAfterSB, RRConflict: RetryConnect, AlwaysASBP: true}
	if got, want := p.Word(), uint64(0x01_03_02_03_04); got != want {
		t.Errorf("got %#x, want %#x", got, want)
	}
}
