// What CometBFT's own code says of evidence of attacks on light clients, for test_attacks.py. Each line of standard input
// is a case as JSON; out comes what CometBFT says of it, with the hash of the evidence. In a module that requires
// github.com/cometbft/cometbft v0.38.26: `python -m tests.ledger.comet.attacks | go run attacks.go > attacks.jsonl`.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/cometbft/cometbft/evidence"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
)

type attackCase struct {
	Name     string `json:"name"`
	Evidence string `json:"evidence"`
	Common   string `json:"common"`
	Trusted  string `json:"trusted"`
}

type verdict struct {
	Name         string   `json:"name"`
	Sha256       string   `json:"sha256"`
	Why          string   `json:"why"`
	Id           string   `json:"id"`
	Blamed       []string `json:"blamed"`
	Misbehaviors []string `json:"misbehaviors"`
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func lightBlock(text string) *types.LightBlock {
	data, err := hex.DecodeString(text)
	must(err)
	var pb cmtproto.LightBlock
	must(pb.Unmarshal(data))
	block, err := types.LightBlockFromProto(&pb)
	must(err)
	return block
}

func judge(c *attackCase, v *verdict) error {
	data, err := hex.DecodeString(c.Evidence)
	must(err)
	hash := sha256.Sum256(data)
	v.Sha256 = hex.EncodeToString(hash[:])
	var pb cmtproto.LightClientAttackEvidence
	if err := pb.Unmarshal(data); err != nil {
		return err
	}
	piece, err := types.LightClientAttackEvidenceFromProto(&pb)
	if err != nil {
		return err
	}
	if hex.EncodeToString(piece.Bytes()) != c.Evidence {
		panic(c.Name + ": other bytes")
	}
	common, trusted := lightBlock(c.Common), lightBlock(c.Trusted)
	v.Id = hex.EncodeToString(piece.Hash())
	for _, validator := range piece.GetByzantineValidators(common.ValidatorSet, trusted.SignedHeader) {
		v.Blamed = append(v.Blamed, hex.EncodeToString(validator.Address))
	}
	for _, found := range piece.ABCI() {
		data, err := found.Marshal()
		must(err)
		v.Misbehaviors = append(v.Misbehaviors, hex.EncodeToString(data))
	}
	if piece.Timestamp != common.Time {
		return fmt.Errorf("evidence has a different time to the block it is associated with")
	}
	return evidence.VerifyLightClientAttack(
		piece, common.SignedHeader, trusted.SignedHeader, common.ValidatorSet, time.Now(), time.Hour)
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var c attackCase
		must(json.Unmarshal(lines.Bytes(), &c))
		v := verdict{Name: c.Name, Blamed: []string{}, Misbehaviors: []string{}}
		if err := judge(&c, &v); err != nil {
			v.Why = err.Error()
		}
		must(out.Encode(v))
	}
}
