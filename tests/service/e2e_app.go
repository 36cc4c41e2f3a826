// Serves the app of CometBFT's end-to-end tests, which answers all calls of ABCI 0.38:
//
//	e2e_app ADDRESS FOLDER [SNAPSHOT_INTERVAL [VOTE_EXTENSIONS_HEIGHT]]
//
// Build it in an empty folder, and name the program in ABCI_E2E_APP:
//
//	cp .../tests/service/e2e_app.go . && go mod init e2e_app
//	go get github.com/cometbft/cometbft@v0.38.26 && go mod tidy && go build -o e2e_app .
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/cometbft/cometbft/abci/server"
	"github.com/cometbft/cometbft/test/e2e/app"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// number is an argument, or 0 where there is none.
func number(at int) int64 {
	if at >= len(os.Args) {
		return 0
	}
	found, err := strconv.ParseInt(os.Args[at], 10, 64)
	check(err)
	return found
}

func main() {
	config := app.DefaultConfig(os.Args[2])
	config.KeyType = "ed25519"
	config.SnapshotInterval = uint64(number(3))
	config.VoteExtensionsEnableHeight = number(4)
	config.VoteExtensionsUpdateHeight = -1 // never, but at InitChain if there is a height
	if config.VoteExtensionsEnableHeight > 0 {
		config.VoteExtensionsUpdateHeight = 0
	}
	application, err := app.NewApplication(config)
	check(err)
	served, err := server.NewServer(os.Args[1], "socket", application)
	check(err)
	check(served.Start())
	select {}
}
