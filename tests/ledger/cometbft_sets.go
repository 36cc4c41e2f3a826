// Writes cometbft_sets.jsonl: histories of validator sets, as CometBFT computes them. To record them anew, in an empty
// folder with this file as main.go:
//
//	go mod init sets && go get github.com/cometbft/cometbft@v0.38.26 && go run . > cometbft_sets.jsonl
//
// One history a line; a set is the changes that led to it, the steps after them, its rows and its proposer.
package main

import (
	"encoding/json"
	"fmt"
	"math/rand"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/types"
)

const names = "abcdefghij"

type change [2]any
type row [3]any

type set struct {
	Changes  []change `json:"changes"`
	Times    int32    `json:"times"`
	After    []row    `json:"after"`
	Proposer string   `json:"proposer"`
}

func recorded(changes []change, times int32, v *types.ValidatorSet) set {
	rows := []row{}
	for _, one := range v.Validators {
		rows = append(rows, row{string(one.Address), one.VotingPower, one.ProposerPriority})
	}
	return set{changes, times, rows, string(v.GetProposer().Address)}
}

func validator(name string, power int64) *types.Validator {
	key := ed25519.GenPrivKeyFromSecret([]byte(name)).PubKey()
	return &types.Validator{Address: []byte(name), PubKey: key, VotingPower: power}
}

func power(r *rand.Rand) int64 {
	switch r.Intn(3) {
	case 0:
		return 1 + r.Int63n(5)
	case 1:
		return 1 + r.Int63n(1000)
	default:
		return 1 + r.Int63n(1<<55)
	}
}

func history(r *rand.Rand) []set {
	founders, changes := []*types.Validator{}, []change{}
	for i := 1 + r.Intn(6); i > 0; i-- {
		name, its := names[i-1:i], power(r)
		founders, changes = append(founders, validator(name, its)), append(changes, change{name, its})
	}
	now := types.NewValidatorSet(founders)
	sets := []set{recorded(changes, 1, now)}
	for height := 0; height < 25; height++ {
		next, changed := now.Copy(), []*types.Validator{}
		changes = []change{}
		for i := 0; i < len(names) && height%3 == 0; i++ {
			if name, its := names[i:i+1], power(r); r.Intn(4) == 0 {
				if next.HasAddress([]byte(name)) && r.Intn(2) == 0 {
					its = 0
				}
				changes, changed = append(changes, change{name, its}), append(changed, validator(name, its))
			}
		}
		if next.UpdateWithChangeSet(changed) != nil {
			continue
		}
		times := 1 + r.Int31n(3)*r.Int31n(20)
		next.IncrementProposerPriority(1) // the height's own, after which rounds or heights follow
		if times > 1 {
			next.IncrementProposerPriority(times - 1)
		}
		now = next
		sets = append(sets, recorded(changes, times, now))
	}
	return sets
}

func main() {
	for seed := int64(1); seed <= 8; seed++ {
		line, _ := json.Marshal(history(rand.New(rand.NewSource(seed))))
		fmt.Println(string(line))
	}
}
