//go:build !redtwin

package vault

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRedTwins switches each defence off, in a build that allows it, and runs the
// tests of it: all must fail.
func TestRedTwins(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a second test program")
	}
	program := filepath.Join(t.TempDir(), "redtwin.test")
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "redtwin", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	run := func(test, off string) ([]byte, error) {
		c := exec.CommandContext(t.Context(), program, "-test.run=^"+test+"$", "off="+off)
		c.Env = append(c.Environ(), "TMPDIR="+t.TempDir())
		return c.CombinedOutput()
	}
	red, total := 0, 0
	for off, tests := range map[defence][]string{
		sealedRows:      {"TestConfidential", "TestIntegrityOfEveryStoredByte"},
		placeBound:      {"TestMovedCiphertextDoesNotOpen", "TestMovedRowsGiveNoLease"},
		versionsChecked: {"TestCredentialRollback", "TestConfigRollback", "TestDestroyedKeysDoNotComeBack", "TestADeletedCustomerIsGoneForGood", "TestChecksUseTheNewestConfigOfTheCustomer", "TestPutBackTokenRows"},
		ownersChecked:   {"TestStateIsOfOneConnection", "TestTicketsOfSharedConnectionsEndWithTheSharing", "TestChecksUseTheNewestConfigOfTheCustomer", "TestWrongCustomerGetsNothing", "TestSharedConnection"},
		daysChecked:     {"TestExpiredDay"},
		rootChecked:     {"TestWrongRootChangesNothing"},
		headChecked:     {"TestLedgerAndLogRollback"},
		sendersChecked:  {"TestOnlyLiveServersCall"},
		callsSigned:     {"TestCallsAreSignedAndServedOnce", "TestTokenCallsAreOfLiveEgressNodes"},
		macsCompared:    {"TestForgedSignaturesDoNotMatch", "TestAnHMACInParts", "TestTokensAreCheckedByTheNamedAlgorithm"},
		leafFirst:       {"TestNoCheckWithoutALeaf", "TestOpeningSecretsForChecksIsALeaf", "TestNoAnswerWithoutALeaf", "TestEachLeaseAndEachViewIsALeaf", "TestReadLeases"},
		signaturesAsked: {"TestTwoSignatures", "TestReadLeases"},
		leasesCounted:   {"TestADispatchGivesAFewLeases"},
		limitsKept:      {"TestRateLimit", "TestPendingsOfACustomerAreBounded"},
		emptyDenied:     {"TestUserIsTheRowOfTheMatrix"},
		keysWiped:       {"TestCloseWipesKeys"},
		ticketsChecked:  {"TestForeignTicketsAreRefused"},
		ordersOnce:      {"TestOrdersAreServedOnce"},
		oneIntent:       {"TestOneNodeRenewsAtATime"},
		fencesChecked:   {"TestStaleFencesSaveNothing", "TestEnteredRecordEndsTheWork"},
		stateOnce:       {"TestStateIsForOneUseOfOneBrowser", "TestPutBackTokenRows"},
		browserBound:    {"TestStateIsForOneUseOfOneBrowser"},
		clientsChecked:  {"TestClientsAreUsedAsTheirRecordAllows"},
		fieldsKept:      {"TestLeaseOfTokensHoldsAccessTokensOnly"},
	} {
		for _, test := range tests {
			total += 2
			out, err := run(test, string(off))
			if err != nil && strings.Contains(string(out), "--- FAIL: "+test) {
				red++
			} else {
				t.Errorf("%s passes with %s switched off: %v\n%s", test, off, err, out)
			}
			if out, err := run(test, ""); err == nil {
				red++
			} else {
				t.Errorf("%s fails with nothing switched off: %v\n%s", test, err, out)
			}
		}
	}
	t.Logf("red twins: %d of %d runs as they should be: red without the defence, green with it", red, total)
}
