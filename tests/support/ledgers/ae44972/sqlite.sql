-- A database whose ledger was made by the commit ae44972: tables at every stage, one version table each.
-- The KEK of the provider env: base64 of b"the KEK of a ledger in the tests"; the DEK of row N of table T: SHA-256 of "T/N".
CREATE TABLE "branched" (
	id INTEGER, 
	encryption_key BLOB, wrapped_key BLOB, wrapped_key_version TEXT, kek_id TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "branched" VALUES(1,X'050C2FBC965AE766BD18C237396C00C27C363D240425E0B6481F53CD430B0CA6',X'031C87CC8583194942812A6D9E7315C1782490B9540F2EED9EBB7EE4868B4E4C89E06139E688BB67229C317409E61A8E94C8164617AFF9309FE89D206257F3DA1FD1DE7DD7EAE9C0D54734C927','V3','env:fffa5b0c61bf86fb');
INSERT INTO "branched" VALUES(2,X'866D199F24B103B0E315995D7A267F8E87ABEA8201EC51B75B079B60970891AA',X'031C87CC8583194942812A6D9E7315C178495EF337C1232524D238F6073658B25361263918D8F73BBC3840D3FBF5823066A7BCF6B3E338AB9EEF4F89133DF89579D450774AEFD307CB0F238D8F','V3','env:fffa5b0c61bf86fb');
INSERT INTO "branched" VALUES(3,X'8CEE025D1529A9FBF5FB7A170DD46252C57DC51AD485B76548862218F9738A8A',X'031C87CC8583194942812A6D9E7315C17814A74D441BCD2DC0431C9B74B4EB274D1420D98438840B90C0E5751D713078F3F588C72D493EA47E744E8CACB5C1076D70BA9EA6AAF4EFD1B11DAE08','V3','env:fffa5b0c61bf86fb');
CREATE TABLE "contracted" (
	id INTEGER, 
	wrapped_key BLOB, wrapped_key_version TEXT, kek_id TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "contracted" VALUES(1,X'01FFFA5B0C61BF86FBBF827B22FA32B844AB4F19595E814BE6520226BEF72F0DFF977740877BE00E69A14907DDD0F8CF9BD0CCB4C25F3B0276B207311F9D126691B6D58BD5','V2','env:fffa5b0c61bf86fb');
INSERT INTO "contracted" VALUES(2,X'01FFFA5B0C61BF86FB1FF3587FDC895B58180AEC1B253ED09E6926AE1E7B3C5B3B9BFAC12CE2F621B5758A7C71838D9A8E6821582EC9899EF371AA6CDC0D83AB789339E2EA','V2','env:fffa5b0c61bf86fb');
INSERT INTO "contracted" VALUES(3,X'01FFFA5B0C61BF86FBC057EC913231079DA614828B4AF726280F39F872C14C7955CF44B15F051799F01249FAE4F1EB9684B9FDEA3D1B12D85B8841DD82370436B8676CA016','V2','env:fffa5b0c61bf86fb');
CREATE TABLE dekctl_branch_keys (
	branch_id VARCHAR(32) NOT NULL, 
	context_name VARCHAR(255) NOT NULL, 
	wrapped BLOB NOT NULL, 
	kek_id VARCHAR(2048) NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	max_uses BIGINT NOT NULL, 
	PRIMARY KEY (branch_id)
);
INSERT INTO "dekctl_branch_keys" VALUES('1c87cc8583194942812a6d9e7315c178','branched',X'01FFFA5B0C61BF86FBB0C296B1200276671F3326869898C9A1042890074C1469262D63F99305FB89B51956B2957F38ADA1A9B9E8D683D253C2DBC3D6F384ED274B0B3A4796','env:fffa5b0c61bf86fb','2026-11-27 11:52:10',10000);
CREATE TABLE dekctl_quarantine (
	table_name VARCHAR(255) NOT NULL, 
	pk_hash VARCHAR(64) NOT NULL, 
	pk TEXT NOT NULL, 
	operation VARCHAR(32) NOT NULL, 
	reason TEXT NOT NULL, 
	run_id VARCHAR(36) NOT NULL, 
	since VARCHAR(32) NOT NULL, 
	PRIMARY KEY (table_name, pk_hash)
);
CREATE TABLE dekctl_runs (
	run_id VARCHAR(36) NOT NULL, 
	operation VARCHAR(32) NOT NULL, 
	table_name VARCHAR(255) NOT NULL, 
	env VARCHAR(64) NOT NULL, 
	shard VARCHAR(32), 
	dry_run BOOLEAN NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	who VARCHAR(255) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	pid INTEGER NOT NULL, 
	process_started VARCHAR(64) NOT NULL, 
	started_at VARCHAR(32) NOT NULL, 
	heartbeat_at VARCHAR(32) NOT NULL, 
	ended_at VARCHAR(32), 
	kek_id VARCHAR(2048), 
	dekctl_version VARCHAR(32) NOT NULL, 
	position TEXT, 
	result TEXT, 
	error TEXT, 
	PRIMARY KEY (run_id)
);
INSERT INTO "dekctl_runs" VALUES('368b6e31-2796-4a9f-9311-9aabb37cb568','wrap','legacy','test',NULL,0,'finished','operator','bastion',20676,'machine/1','2026-11-27 11:52:10.390','2026-11-27 11:52:10.390','2026-11-27 11:52:10.444','env:fffa5b0c61bf86fb','0.1.0','3','{"scanned": 3, "changed": 3, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('15a807b1-b115-42ee-a007-b0894e81aa14','wrap','expanded','test',NULL,0,'finished','operator','bastion',20676,'machine/1','2026-11-27 11:52:10.467','2026-11-27 11:52:10.467','2026-11-27 11:52:10.519','env:fffa5b0c61bf86fb','0.1.0','3','{"scanned": 3, "changed": 3, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('77e633ea-d2fa-41d0-8cca-fe82e6862566','wrap','contracted','test',NULL,0,'finished','operator','bastion',20676,'machine/1','2026-11-27 11:52:10.550','2026-11-27 11:52:10.550','2026-11-27 11:52:10.565','env:fffa5b0c61bf86fb','0.1.0','3','{"scanned": 3, "changed": 3, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('a120a482-2f62-4814-8c6d-a256df97b260','wrap','branched','test',NULL,0,'finished','operator','bastion',20676,'machine/1','2026-11-27 11:52:10.576','2026-11-27 11:52:10.576','2026-11-27 11:52:10.652','env:fffa5b0c61bf86fb','0.1.0','3','{"scanned": 3, "changed": 3, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('35905fbe-2f08-4454-ae17-7328f8dc8559','verify','legacy','test',NULL,1,'finished','operator','bastion',20676,'machine/1','2026-11-27 11:52:10.698','2026-11-27 11:52:10.698','2026-11-27 11:52:10.735',NULL,'0.1.0','3','{"scanned": 3, "changed": 0, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 3, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('b49cb841-64b8-4706-b64b-3f747151161d','verify','expanded','test',NULL,1,'finished','operator','bastion',20676,'machine/1','2026-11-27 11:52:10.769','2026-11-27 11:52:10.769','2026-11-27 11:52:10.791',NULL,'0.1.0','3','{"scanned": 3, "changed": 0, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 3, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('5c827dc9-9097-4948-ba7e-0fd3a1b2a64e','verify','contracted','test',NULL,1,'finished','operator','bastion',20676,'machine/1','2026-11-27 11:52:10.797','2026-11-27 11:52:10.797','2026-11-27 11:52:10.804',NULL,'0.1.0','3','{"scanned": 3, "changed": 0, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 3, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('77b57c1e-2125-464a-b904-eb81823d599d','verify','branched','test',NULL,1,'finished','operator','bastion',20676,'machine/1','2026-11-27 11:52:10.810','2026-11-27 11:52:10.810','2026-11-27 11:52:10.817',NULL,'0.1.0','3','{"scanned": 3, "changed": 0, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 3, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('e2248dc2-174b-424e-b1ce-66394c2f414f','scrub','expanded','test',NULL,0,'finished','operator','bastion',20846,'machine/1','2026-11-27 11:52:11.502','2026-11-27 11:52:11.502','2026-11-27 11:52:11.536',NULL,'0.1.0','1','{"scanned": 1, "changed": 1, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('9095997a-b0dc-414b-ba78-d18e2fbedc24','scrub','contracted','test',NULL,0,'finished','operator','bastion',20910,'machine/1','2026-11-27 11:52:12.132','2026-11-27 11:52:12.132','2026-11-27 11:52:12.180',NULL,'0.1.0','3','{"scanned": 3, "changed": 3, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('cc44dfce-f44c-433f-8548-c306c514d049','schema contract','contracted','test',NULL,0,'finished','operator','bastion',20975,'machine/1','2026-11-27 11:52:13.168','2026-11-27 11:52:13.168','2026-11-27 11:52:13.203',NULL,'0.1.0',NULL,'{"kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('4ce00802-e1df-4284-8d12-359bbcc6cc16','verify','legacy','test',NULL,1,'finished','operator','bastion',21026,'machine/1','2026-11-27 11:52:14.180','2026-11-27 11:52:14.180','2026-11-27 11:52:14.227',NULL,'0.1.0','3','{"scanned": 3, "changed": 0, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 3, "kms_calls": {}}',NULL);
INSERT INTO "dekctl_runs" VALUES('b924d866-6ae2-41f2-9308-08da464979d3','schema rollback','legacy','test',NULL,0,'finished','operator','bastion',21026,'machine/1','2026-11-27 11:52:14.249','2026-11-27 11:52:14.249','2026-11-27 11:52:14.353',NULL,'0.1.0',NULL,'{"kms_calls": {}}',NULL);
CREATE TABLE dekctl_tables (
	table_name VARCHAR(255) NOT NULL, 
	facts TEXT NOT NULL, 
	PRIMARY KEY (table_name)
);
INSERT INTO "dekctl_tables" VALUES('expanded','{"added": ["wrapped_key", "wrapped_key_version", "kek_id"], "columns": {"kek_column": "kek_id", "plaintext_column": "encryption_key", "version_column": "wrapped_key_version", "wrapped_column": "wrapped_key"}, "plaintext_nullable": false, "plaintext_type": "BLOB"}');
INSERT INTO "dekctl_tables" VALUES('contracted','{"added": ["wrapped_key", "wrapped_key_version", "kek_id"], "columns": {"kek_column": "kek_id", "plaintext_column": "encryption_key", "version_column": "wrapped_key_version", "wrapped_column": "wrapped_key"}, "plaintext_nullable": false, "plaintext_type": "BLOB"}');
INSERT INTO "dekctl_tables" VALUES('branched','{"added": ["wrapped_key", "wrapped_key_version", "kek_id"], "columns": {"kek_column": "kek_id", "plaintext_column": "encryption_key", "version_column": "wrapped_key_version", "wrapped_column": "wrapped_key"}, "plaintext_nullable": false, "plaintext_type": "BLOB"}');
CREATE TABLE dekctl_version_branched (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT dekctl_version_branched_pkc PRIMARY KEY (version_num)
);
INSERT INTO "dekctl_version_branched" VALUES('0002');
CREATE TABLE dekctl_version_contracted (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT dekctl_version_contracted_pkc PRIMARY KEY (version_num)
);
INSERT INTO "dekctl_version_contracted" VALUES('0003');
CREATE TABLE dekctl_version_expanded (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT dekctl_version_expanded_pkc PRIMARY KEY (version_num)
);
INSERT INTO "dekctl_version_expanded" VALUES('0002');
CREATE TABLE dekctl_version_legacy (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT dekctl_version_legacy_pkc PRIMARY KEY (version_num)
);
INSERT INTO "dekctl_version_legacy" VALUES('0001');
CREATE TABLE "expanded" (
	id INTEGER, 
	encryption_key BLOB, wrapped_key BLOB, wrapped_key_version TEXT, kek_id TEXT, 
	PRIMARY KEY (id)
);
INSERT INTO "expanded" VALUES(1,NULL,X'01FFFA5B0C61BF86FBA860B8DFFDD71890A3F77807A93C51E50F0C1BF3F8E2D11373DEB58FC54333CECD7E0A7989363FBA559F2282D300827B7DE25FC53C4431CED3F6C79E','V2','env:fffa5b0c61bf86fb');
INSERT INTO "expanded" VALUES(2,X'A70C6ECB3BD75E190F8EF11A8CF3126CC626DE32474D29DCD5B733342B334970',X'01FFFA5B0C61BF86FBB2B5AC1CE74ADF09BB003931C574882A7C9642FC3C6DD62B717D5CC5C3F7AC2305CC855FF3FFC685A95120468F9B809DD18020606C1F9CD5CA7FDD93','V2','env:fffa5b0c61bf86fb');
INSERT INTO "expanded" VALUES(3,X'C857C9C28ACA41922D9AEE3C5D2043906F5E1118A2138BDDBC2958868D426F60',X'01FFFA5B0C61BF86FBF5834809F2023ACB4B9E9FA154E31CD3F43E95149541EE84BDAF56565B8C0B8F44CE03DC1356739C932A6BC6DCF36E48AB9BC0B98639A7699CC507F6','V2','env:fffa5b0c61bf86fb');
CREATE TABLE "legacy" (
	id INTEGER, 
	encryption_key BLOB NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "legacy" VALUES(1,X'933D916BD0636365FA329916C96CA3D2EB29C90425AF05CEDC25F9E0619ED5B2');
INSERT INTO "legacy" VALUES(2,X'04A24B88759FCC03D1A899C8AB549138D36B8C8F3BE996F24ED62A0FC692973E');
INSERT INTO "legacy" VALUES(3,X'4BB2C7FAFD0844CB67C119FC1BCD8790F9665C87776A7F5249EE491FB4D804F2');
