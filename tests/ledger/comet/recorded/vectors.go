// Encodings by CometBFT itself, for test_vectors.py: `go run vectors.go > vectors.json`, in a module that requires
// github.com/cometbft/cometbft v0.38.26. Each is a name and the bytes in hexadecimal.
package main

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cryptoproto "github.com/cometbft/cometbft/proto/tendermint/crypto"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
)

type message interface{ Marshal() ([]byte, error) }

var made = map[string]string{}

func add(name string, data []byte) { made[name] = hex.EncodeToString(data) }

func proto(name string, m message) {
	data, err := m.Marshal()
	if err != nil {
		panic(err)
	}
	add(name, data)
}

func request(name string, value interface{}) {
	r := abci.Request{}
	switch v := value.(type) {
	case *abci.RequestEcho:
		r.Value = &abci.Request_Echo{Echo: v}
	case *abci.RequestFlush:
		r.Value = &abci.Request_Flush{Flush: v}
	case *abci.RequestInfo:
		r.Value = &abci.Request_Info{Info: v}
	case *abci.RequestInitChain:
		r.Value = &abci.Request_InitChain{InitChain: v}
	case *abci.RequestQuery:
		r.Value = &abci.Request_Query{Query: v}
	case *abci.RequestCheckTx:
		r.Value = &abci.Request_CheckTx{CheckTx: v}
	case *abci.RequestCommit:
		r.Value = &abci.Request_Commit{Commit: v}
	case *abci.RequestListSnapshots:
		r.Value = &abci.Request_ListSnapshots{ListSnapshots: v}
	case *abci.RequestOfferSnapshot:
		r.Value = &abci.Request_OfferSnapshot{OfferSnapshot: v}
	case *abci.RequestLoadSnapshotChunk:
		r.Value = &abci.Request_LoadSnapshotChunk{LoadSnapshotChunk: v}
	case *abci.RequestApplySnapshotChunk:
		r.Value = &abci.Request_ApplySnapshotChunk{ApplySnapshotChunk: v}
	case *abci.RequestPrepareProposal:
		r.Value = &abci.Request_PrepareProposal{PrepareProposal: v}
	case *abci.RequestProcessProposal:
		r.Value = &abci.Request_ProcessProposal{ProcessProposal: v}
	case *abci.RequestExtendVote:
		r.Value = &abci.Request_ExtendVote{ExtendVote: v}
	case *abci.RequestVerifyVoteExtension:
		r.Value = &abci.Request_VerifyVoteExtension{VerifyVoteExtension: v}
	case *abci.RequestFinalizeBlock:
		r.Value = &abci.Request_FinalizeBlock{FinalizeBlock: v}
	default:
		panic(name)
	}
	proto("request "+name, &r)
}

func response(name string, value interface{}) {
	r := abci.Response{}
	switch v := value.(type) {
	case *abci.ResponseException:
		r.Value = &abci.Response_Exception{Exception: v}
	case *abci.ResponseEcho:
		r.Value = &abci.Response_Echo{Echo: v}
	case *abci.ResponseFlush:
		r.Value = &abci.Response_Flush{Flush: v}
	case *abci.ResponseInfo:
		r.Value = &abci.Response_Info{Info: v}
	case *abci.ResponseInitChain:
		r.Value = &abci.Response_InitChain{InitChain: v}
	case *abci.ResponseQuery:
		r.Value = &abci.Response_Query{Query: v}
	case *abci.ResponseCheckTx:
		r.Value = &abci.Response_CheckTx{CheckTx: v}
	case *abci.ResponseCommit:
		r.Value = &abci.Response_Commit{Commit: v}
	case *abci.ResponseListSnapshots:
		r.Value = &abci.Response_ListSnapshots{ListSnapshots: v}
	case *abci.ResponseOfferSnapshot:
		r.Value = &abci.Response_OfferSnapshot{OfferSnapshot: v}
	case *abci.ResponseLoadSnapshotChunk:
		r.Value = &abci.Response_LoadSnapshotChunk{LoadSnapshotChunk: v}
	case *abci.ResponseApplySnapshotChunk:
		r.Value = &abci.Response_ApplySnapshotChunk{ApplySnapshotChunk: v}
	case *abci.ResponsePrepareProposal:
		r.Value = &abci.Response_PrepareProposal{PrepareProposal: v}
	case *abci.ResponseProcessProposal:
		r.Value = &abci.Response_ProcessProposal{ProcessProposal: v}
	case *abci.ResponseExtendVote:
		r.Value = &abci.Response_ExtendVote{ExtendVote: v}
	case *abci.ResponseVerifyVoteExtension:
		r.Value = &abci.Response_VerifyVoteExtension{VerifyVoteExtension: v}
	case *abci.ResponseFinalizeBlock:
		r.Value = &abci.Response_FinalizeBlock{FinalizeBlock: v}
	default:
		panic(name)
	}
	proto("response "+name, &r)
}

func bytesOf(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func main() {
	at := time.Unix(1_700_000_000, 123_456_789).UTC()
	hash, other, address := bytesOf(1, 32), bytesOf(2, 32), bytesOf(3, 20)
	id := cmtproto.BlockID{Hash: hash, PartSetHeader: cmtproto.PartSetHeader{Total: 300, Hash: other}}
	signature := bytesOf(4, 64)

	proposal := cmtproto.Proposal{Type: cmtproto.ProposalType, Height: 1 << 40, Round: 5, PolRound: 3, BlockID: id, Timestamp: at, Signature: signature}
	proto("proposal", &proposal)
	add("proposal sign bytes", types.ProposalSignBytes("a-chain", &proposal))
	proposal.PolRound, proposal.Round = -1, 0
	proto("new proposal", &proposal)
	add("new proposal sign bytes", types.ProposalSignBytes("a-chain", &proposal))
	vote := cmtproto.Vote{Type: cmtproto.PrecommitType, Height: 7, Round: 2, BlockID: id, Timestamp: at, ValidatorAddress: address, ValidatorIndex: 9, Signature: signature, Extension: []byte("more"), ExtensionSignature: bytesOf(5, 64)}
	proto("vote", &vote)
	add("vote sign bytes", types.VoteSignBytes("a-chain", &vote))
	add("extension sign bytes", types.VoteExtensionSignBytes("a-chain", &vote))
	vote.Extension, vote.ExtensionSignature, vote.Round = nil, nil, 0
	add("no extension sign bytes", types.VoteExtensionSignBytes("a-chain", &vote))
	vote.BlockID, vote.Type = cmtproto.BlockID{}, cmtproto.PrevoteType
	proto("nil vote", &vote)
	add("nil vote sign bytes", types.VoteSignBytes("a-chain", &vote))

	extended := cmtproto.ExtendedCommit{Height: 7, Round: 2, BlockID: id, ExtendedSignatures: []cmtproto.ExtendedCommitSig{
		{BlockIdFlag: cmtproto.BlockIDFlagCommit, ValidatorAddress: address, Timestamp: at, Signature: signature, Extension: []byte("more"), ExtensionSignature: bytesOf(5, 64)},
		{BlockIdFlag: cmtproto.BlockIDFlagAbsent},
	}}
	proto("extended commit", &extended)

	key := ed25519.GenPrivKeyFromSecret([]byte("vectors")).PubKey()
	validator := types.NewValidator(key, 77)
	validator.ProposerPriority = -12
	set := &types.ValidatorSet{Validators: []*types.Validator{validator}, Proposer: validator}
	setProto, _ := set.ToProto()
	proto("validator set", setProto)
	add("validators hash", set.Hash())
	commit := &types.Commit{Height: 9, Round: 1, BlockID: types.BlockID{Hash: hash, PartSetHeader: types.PartSetHeader{Total: 1, Hash: other}}, Signatures: []types.CommitSig{{BlockIDFlag: types.BlockIDFlagCommit, ValidatorAddress: key.Address(), Timestamp: at, Signature: signature}}}
	header := &types.Header{ChainID: "a-chain", Height: 9, Time: at, ValidatorsHash: set.Hash(), NextValidatorsHash: other, AppHash: []byte("odd"), ProposerAddress: address}
	header.Version.Block, header.Version.App = 11, 1<<50
	commit.BlockID.Hash = header.Hash()
	add("header hash", header.Hash())
	attack := &types.LightClientAttackEvidence{ConflictingBlock: &types.LightBlock{SignedHeader: &types.SignedHeader{Header: header, Commit: commit}, ValidatorSet: set}, CommonHeight: 300, ByzantineValidators: []*types.Validator{validator}, TotalVotingPower: 77, Timestamp: at}
	attack.CommonHeight = 8
	add("attack", attack.Bytes())
	add("attack id", attack.Hash())
	add("evidence hash", types.EvidenceList{attack, attack}.Hash())

	params := types.DefaultConsensusParams()
	params.Evidence.MaxAgeDuration = 90*time.Second + 5
	params.ABCI.VoteExtensionsEnableHeight = 12
	pb := params.ToProto()
	proto("params", &pb)
	add("consensus hash", params.Hash())

	abciVectors(at, hash, address, pb)
	json.NewEncoder(os.Stdout).Encode(made)
}

func abciVectors(at time.Time, hash, address []byte, params cmtproto.ConsensusParams) {
	ed := cryptoproto.PublicKey{Sum: &cryptoproto.PublicKey_Ed25519{Ed25519: bytesOf(6, 32)}}
	updates := []abci.ValidatorUpdate{{PubKey: ed, Power: 5}, {PubKey: ed}}
	validator := abci.Validator{Address: address, Power: 5}
	last := abci.CommitInfo{Round: 3, Votes: []abci.VoteInfo{{Validator: validator, BlockIdFlag: cmtproto.BlockIDFlagCommit}, {BlockIdFlag: cmtproto.BlockIDFlagAbsent}}}
	extended := abci.ExtendedCommitInfo{Round: 3, Votes: []abci.ExtendedVoteInfo{{Validator: validator, VoteExtension: []byte("more"), ExtensionSignature: bytesOf(5, 64), BlockIdFlag: cmtproto.BlockIDFlagCommit}}}
	bad := []abci.Misbehavior{{Type: abci.MisbehaviorType_DUPLICATE_VOTE, Validator: validator, Height: 4, Time: at, TotalVotingPower: 19}}
	txs := [][]byte{[]byte("a=1"), {}, []byte("b=2")}
	snapshot := abci.Snapshot{Height: 10, Format: 2, Chunks: 3, Hash: hash, Metadata: []byte("meta")}
	events := []abci.Event{{Type: "moved", Attributes: []abci.EventAttribute{{Key: "k", Value: "v", Index: true}, {Key: "empty"}}}, {}}

	request("echo", &abci.RequestEcho{Message: "hällo"})
	request("flush", &abci.RequestFlush{})
	request("info", &abci.RequestInfo{Version: "0.38.26", BlockVersion: 11, P2PVersion: 8, AbciVersion: "2.0.0"})
	request("init chain", &abci.RequestInitChain{Time: at, ChainId: "a-chain", ConsensusParams: &params, Validators: updates, AppStateBytes: []byte("{}"), InitialHeight: 1})
	request("query", &abci.RequestQuery{Data: []byte("k"), Path: "/store", Height: 5, Prove: true})
	request("check tx", &abci.RequestCheckTx{Tx: []byte("a=1"), Type: abci.CheckTxType_Recheck})
	request("commit", &abci.RequestCommit{})
	request("list snapshots", &abci.RequestListSnapshots{})
	request("offer snapshot", &abci.RequestOfferSnapshot{Snapshot: &snapshot, AppHash: []byte("app")})
	request("load snapshot chunk", &abci.RequestLoadSnapshotChunk{Height: 10, Format: 2, Chunk: 1})
	request("apply snapshot chunk", &abci.RequestApplySnapshotChunk{Index: 1, Chunk: []byte("chunk"), Sender: "me"})
	request("prepare proposal", &abci.RequestPrepareProposal{MaxTxBytes: 1 << 20, Txs: txs, LocalLastCommit: extended, Misbehavior: bad, Height: 7, Time: at, NextValidatorsHash: hash, ProposerAddress: address})
	request("process proposal", &abci.RequestProcessProposal{Txs: txs, ProposedLastCommit: last, Misbehavior: bad, Hash: hash, Height: 7, Time: at, NextValidatorsHash: hash, ProposerAddress: address})
	request("extend vote", &abci.RequestExtendVote{Hash: hash, Height: 7, Time: at, Txs: txs, ProposedLastCommit: last, Misbehavior: bad, NextValidatorsHash: hash, ProposerAddress: address})
	request("verify vote extension", &abci.RequestVerifyVoteExtension{Hash: hash, ValidatorAddress: address, Height: 7, VoteExtension: []byte("more")})
	request("finalize block", &abci.RequestFinalizeBlock{Txs: txs, DecidedLastCommit: last, Misbehavior: bad, Hash: hash, Height: 7, Time: at, NextValidatorsHash: hash, ProposerAddress: address})

	ops := &cryptoproto.ProofOps{Ops: []cryptoproto.ProofOp{{Type: "simple", Key: []byte("k"), Data: []byte("d")}}}
	results := []*abci.ExecTxResult{{Code: 3, Data: []byte("d"), Log: "l", Info: "i", GasWanted: 9, GasUsed: -1, Events: events, Codespace: "c"}, {}}
	response("exception", &abci.ResponseException{Error: "no"})
	response("echo", &abci.ResponseEcho{Message: "hällo"})
	response("flush", &abci.ResponseFlush{})
	response("info", &abci.ResponseInfo{Data: "{}", Version: "1", AppVersion: 2, LastBlockHeight: 6, LastBlockAppHash: []byte("app")})
	response("init chain", &abci.ResponseInitChain{ConsensusParams: &params, Validators: updates, AppHash: []byte("app")})
	response("query", &abci.ResponseQuery{Code: 1, Log: "l", Info: "i", Index: -1, Key: []byte("k"), Value: []byte("v"), ProofOps: ops, Height: 5, Codespace: "c"})
	response("check tx", &abci.ResponseCheckTx{Code: 1, Data: []byte("d"), Log: "l", Info: "i", GasWanted: 9, GasUsed: 8, Events: events, Codespace: "c"})
	response("commit", &abci.ResponseCommit{RetainHeight: 4})
	response("list snapshots", &abci.ResponseListSnapshots{Snapshots: []*abci.Snapshot{&snapshot, {}}})
	response("offer snapshot", &abci.ResponseOfferSnapshot{Result: abci.ResponseOfferSnapshot_REJECT_SENDER})
	response("load snapshot chunk", &abci.ResponseLoadSnapshotChunk{Chunk: []byte("chunk")})
	response("apply snapshot chunk", &abci.ResponseApplySnapshotChunk{Result: abci.ResponseApplySnapshotChunk_RETRY, RefetchChunks: []uint32{1, 300}, RejectSenders: []string{"you", ""}})
	response("prepare proposal", &abci.ResponsePrepareProposal{Txs: txs})
	response("process proposal", &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT})
	response("extend vote", &abci.ResponseExtendVote{VoteExtension: []byte("more")})
	response("verify vote extension", &abci.ResponseVerifyVoteExtension{Status: abci.ResponseVerifyVoteExtension_ACCEPT})
	response("finalize block", &abci.ResponseFinalizeBlock{Events: events, TxResults: results, ValidatorUpdates: updates, ConsensusParamUpdates: &params, AppHash: []byte("app")})
}
