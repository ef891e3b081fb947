package expr

import (
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// coster prices calls by what they read and by what they make. A result is priced after it was
// made, so every function that can make much out of little also checks MaxStringBytes or
// MaxListItems before it does.
type coster struct{}

// CallCost implements cost.ActualCostEstimator.
func (coster) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	var n uint64
	switch function {
	case operators.Add:
		n = addCost(args, result)
	case operators.In:
		n = 1 + readCost(args[0])
		if l, ok := args[1].(traits.Lister); ok {
			n += uint64(listLen(l)) + deepWeight(args[0], MaxCost)
		}
	case fnEq, fnNe:
		n = 1 + min(deepWeight(args[0], MaxCost), deepWeight(args[1], MaxCost))
	case "toJson", "sha256", "mapFields", "flatten", "format", fnJoin:
		n = 1 + deepCost(args) + madeCost(result)
	case "parseJson":
		n = 1 + 4*deepCost(args)
	case "unique", "distinct", fnUnique, fnKeyBy, "sort", fnSortBy:
		n = 1 + 4*deepCost(args) + madeCost(result)
	case fnGroupBy: // every group is a list of its own
		n = 1 + 4*deepCost(args) + 32*madeCost(result)
	case "sum", "chunk", "slice", "reverse", "lists.range", fnMax, fnMin, "lookup":
		n = 1 + itemCost(args) + madeCost(result)
	case "matches":
		// RE2 is linear in the text, but slow per byte.
		n = 1 + uint64(stringLen(args[0]))/2*(1+uint64(stringLen(args[1]))/8)
	default:
		n = 1 + madeCost(result)
		for _, a := range args {
			n += readCost(a)
		}
	}
	return &n
}

// addCost prices + by the size of its result; the list that a macro builds in place by what is
// added to it.
func addCost(args []ref.Val, result ref.Val) uint64 {
	if _, building := result.(traits.MutableLister); building {
		if l, ok := args[1].(traits.Lister); ok {
			return 1 + uint64(listLen(l))
		}
	}
	return 1 + madeCost(result)
}

// readCost prices looking at a text; other values cost nothing to look at.
func readCost(v ref.Val) uint64 { return uint64(stringLen(v)) / readPerCost }

func stringLen(v ref.Val) int {
	switch x := v.(type) {
	case types.String:
		return len(x)
	case types.Bytes:
		return len(x)
	case *number:
		return len(x.text)
	}
	return 0
}

// madeCost prices what was made, without looking inside.
func madeCost(v ref.Val) uint64 {
	switch x := v.(type) {
	case types.String, types.Bytes, *number:
		return uint64(stringLen(x)) / bytesPerCost
	case rawJSON:
		if x.rawJSON() != nil {
			return 0
		}
	}
	switch x := v.(type) {
	case traits.Lister:
		return uint64(listLen(x))
	case traits.Mapper:
		return uint64(mapLen(x))
	}
	return 0
}

func itemCost(args []ref.Val) uint64 {
	var n uint64
	for _, a := range args {
		if l, ok := a.(traits.Lister); ok {
			n += uint64(listLen(l))
		} else {
			n += readCost(a)
		}
	}
	return n
}

func deepCost(args []ref.Val) uint64 {
	var n uint64
	for _, a := range args {
		n += deepWeight(a, MaxCost)
	}
	return n
}
