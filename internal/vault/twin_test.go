//go:build !redtwin

package vault

import (
	"testing"

	"github.com/bulkheadhq/bulkhead/internal/testkit"
)

// TestRedTwins switches each defence off, in a build that allows it, and runs the
// tests of it: all must fail.
func TestRedTwins(t *testing.T) {
	t.Parallel()
	twin := testkit.BuildTwin(t)
	red, total := 0, 0
	for off, tests := range map[defence][]string{
		sealedRows:      {"TestConfidential", "TestIntegrityOfEveryStoredByte"},
		placeBound:      {"TestMovedCiphertextDoesNotOpen", "TestMovedRowsGiveNoLease"},
		versionsChecked: {"TestCredentialRollback", "TestConfigRollback", "TestDestroyedKeysDoNotComeBack", "TestADeletedCustomerIsGoneForGood", "TestChecksUseTheNewestConfigOfTheCustomer", "TestPutBackTokenRows"},
		ownersChecked:   {"TestAccountLabels", "TestStateIsOfOneConnection", "TestTicketsOfSharedConnectionsEndWithTheSharing", "TestChecksUseTheNewestConfigOfTheCustomer", "TestWrongCustomerGetsNothing", "TestSharedConnection"},
		daysChecked:     {"TestExpiredDay"},
		rootChecked:     {"TestWrongRootChangesNothing"},
		headChecked:     {"TestLedgerAndLogRollback"},
		sendersChecked:  {"TestOnlyLiveServersCall"},
		callsSigned:     {"TestCallsAreSignedAndServedOnce", "TestTokenCallsAreOfLiveEgressNodes"},
		macsCompared:    {"TestForgedSignaturesDoNotMatch", "TestAnHMACInParts", "TestTokensAreCheckedByTheNamedAlgorithm"},
		leafFirst:       {"TestAccountLabels", "TestNoCheckWithoutALeaf", "TestOpeningSecretsForChecksIsALeaf", "TestNoAnswerWithoutALeaf", "TestEachLeaseAndEachViewIsALeaf", "TestReadLeases"},
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
		clientsChecked:  {"TestClientsAreUsedAsTheirRecordAllows", "TestClientsAreOfTheirPorts"},
		portsChecked:    {"TestClientsAreOfTheirPorts"},
		sharingKept:     {"TestReconnectKeepsTheSharing"},
		fieldsKept:      {"TestLeaseOfTokensHoldsAccessTokensOnly"},
	} {
		for _, test := range tests {
			total++
			if twin.Check(test, string(off)) {
				red++
			}
		}
	}
	t.Logf("red twins: %d of %d tests as they should be: red without the defence, green with it", red, total)
}
