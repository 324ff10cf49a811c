-- A database whose ledger was made by the commit ae44972: tables at every stage, one version table each.
-- The KEK of the provider env: base64 of b"the KEK of a ledger in the tests"; the DEK of row N of table T: SHA-256 of "T/N".
CREATE TABLE `branched` (
  `id` int(11) NOT NULL,
  `encryption_key` varbinary(32) DEFAULT NULL,
  `wrapped_key` varbinary(6144) DEFAULT NULL,
  `wrapped_key_version` varchar(10) DEFAULT NULL,
  `kek_id` varchar(255) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `branched` VALUES (1,0x050C2FBC965AE766BD18C237396C00C27C363D240425E0B6481F53CD430B0CA6,0x03DCDD5D689BED40139964928CFCA0BB63308C688D89143801DA11A41246B2E4396111E783B75FE2AA2C8BC53AA2BB7DB363FE2357EE5CDDFED65101FCCBBC1F9FB7B869C8F8810E899A5045BA,'V3','env:fffa5b0c61bf86fb');
INSERT INTO `branched` VALUES (2,0x866D199F24B103B0E315995D7A267F8E87ABEA8201EC51B75B079B60970891AA,0x03DCDD5D689BED40139964928CFCA0BB63FDEA834093958BE898A4FB5D305E691DAB80E4E2A6E3738F4E84286997D024C0B5D12DC2E61FD1D425E62149CD9F68D2A4F1D5712764A81A169E05ED,'V3','env:fffa5b0c61bf86fb');
INSERT INTO `branched` VALUES (3,0x8CEE025D1529A9FBF5FB7A170DD46252C57DC51AD485B76548862218F9738A8A,0x03DCDD5D689BED40139964928CFCA0BB63018D40C17EA73A577B903CB65B45996A7DF2406DEA36AD5D653F487FC976F5686268AEF659BE84D0F32A298C7FDAC41DB42FDB6F1FA42750C1B004B3,'V3','env:fffa5b0c61bf86fb');
CREATE TABLE `contracted` (
  `id` int(11) NOT NULL,
  `wrapped_key` varbinary(6144) DEFAULT NULL,
  `wrapped_key_version` varchar(10) DEFAULT NULL,
  `kek_id` varchar(255) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `contracted` VALUES (1,0x01FFFA5B0C61BF86FBEF16ACE7C3AEC59438963B77B99DEC93772D861F9B40540C5BB5A14AE3C254F7B60B53B684A28FB0B92A6F42494D05C3B32A71913307032623B969E0,'V2','env:fffa5b0c61bf86fb');
INSERT INTO `contracted` VALUES (2,0x01FFFA5B0C61BF86FB796E750835766843CD7B357DE7E901B336D7D1362AB1A123AED224CFC85184ECE8180E5EE09FD7E4560EAFF682D2DA5BDC935FC084E4C5EA7FB4A7CD,'V2','env:fffa5b0c61bf86fb');
INSERT INTO `contracted` VALUES (3,0x01FFFA5B0C61BF86FB7AD0076F73722F2F4462001FB83985095B56A42E7C85616ED60EAFB8763AA38FD916FE4B0F4CE908C5DF7BB34E75C243AD9AC4EEF791696677C851C7,'V2','env:fffa5b0c61bf86fb');
CREATE TABLE `dekctl_branch_keys` (
  `branch_id` varchar(32) NOT NULL,
  `context_name` varchar(255) NOT NULL,
  `wrapped` varbinary(6144) NOT NULL,
  `kek_id` varchar(2048) NOT NULL,
  `created_at` varchar(32) NOT NULL,
  `max_uses` bigint(20) NOT NULL,
  PRIMARY KEY (`branch_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `dekctl_branch_keys` VALUES ('dcdd5d689bed40139964928cfca0bb63','branched',0x01FFFA5B0C61BF86FB335739B7E523CF441B7CE7FFE5267BB63C9D7729AA733070AE2E4DDFA3E3A563ED7E5A6F4EE27C3C9853578EB3360343F957A413B9665A112012A48E,'env:fffa5b0c61bf86fb','2026-11-27 11:52:29',10000);
CREATE TABLE `dekctl_quarantine` (
  `table_name` varchar(255) NOT NULL,
  `pk_hash` varchar(64) NOT NULL,
  `pk` text NOT NULL,
  `operation` varchar(32) NOT NULL,
  `reason` text NOT NULL,
  `run_id` varchar(36) NOT NULL,
  `since` varchar(32) NOT NULL,
  PRIMARY KEY (`table_name`,`pk_hash`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
CREATE TABLE `dekctl_runs` (
  `run_id` varchar(36) NOT NULL,
  `operation` varchar(32) NOT NULL,
  `table_name` varchar(255) NOT NULL,
  `env` varchar(64) NOT NULL,
  `shard` varchar(32) DEFAULT NULL,
  `dry_run` tinyint(1) NOT NULL,
  `state` varchar(16) NOT NULL,
  `who` varchar(255) NOT NULL,
  `host` varchar(255) NOT NULL,
  `pid` int(11) NOT NULL,
  `process_started` varchar(64) NOT NULL,
  `started_at` varchar(32) NOT NULL,
  `heartbeat_at` varchar(32) NOT NULL,
  `ended_at` varchar(32) DEFAULT NULL,
  `kek_id` varchar(2048) DEFAULT NULL,
  `dekctl_version` varchar(32) NOT NULL,
  `position` text DEFAULT NULL,
  `result` text DEFAULT NULL,
  `error` text DEFAULT NULL,
  PRIMARY KEY (`run_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `dekctl_runs` VALUES ('06b24ae2-910a-40cb-b64c-e5698bc27ae0','scrub','contracted','test',NULL,0,'finished','operator','bastion',22042,'machine/1','2026-11-27 11:52:31.370','2026-11-27 11:52:31.370','2026-11-27 11:52:31.392',NULL,'0.1.0','3','{\"scanned\": 3, \"changed\": 3, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 0, \"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('21ef90cc-69c7-4d92-b47b-1784f1116006','wrap','expanded','test',NULL,0,'finished','operator','bastion',21901,'machine/1','2026-11-27 11:52:29.838','2026-11-27 11:52:29.838','2026-11-27 11:52:29.854','env:fffa5b0c61bf86fb','0.1.0','3','{\"scanned\": 3, \"changed\": 3, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 0, \"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('2e82de6c-fba1-45b1-b629-86835e613dc8','wrap','contracted','test',NULL,0,'finished','operator','bastion',21901,'machine/1','2026-11-27 11:52:29.865','2026-11-27 11:52:29.865','2026-11-27 11:52:29.881','env:fffa5b0c61bf86fb','0.1.0','3','{\"scanned\": 3, \"changed\": 3, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 0, \"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('37afde7c-76e0-4ce7-affa-3081302e9396','schema rollback','legacy','test',NULL,0,'finished','operator','bastion',22088,'machine/1','2026-11-27 11:52:33.172','2026-11-27 11:52:33.172','2026-11-27 11:52:33.523',NULL,'0.1.0',NULL,'{\"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('9728c63a-b5f5-40bf-ac9c-cffd092fca0a','schema contract','contracted','test',NULL,0,'finished','operator','bastion',22064,'machine/1','2026-11-27 11:52:32.205','2026-11-27 11:52:32.205','2026-11-27 11:52:32.288',NULL,'0.1.0',NULL,'{\"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('9f528f1c-0c91-47f0-aa96-35706903c80a','verify','expanded','test',NULL,1,'finished','operator','bastion',21901,'machine/1','2026-11-27 11:52:30.005','2026-11-27 11:52:30.005','2026-11-27 11:52:30.019',NULL,'0.1.0','3','{\"scanned\": 3, \"changed\": 0, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 3, \"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('ab67380a-50df-4796-8159-927303223ab7','verify','contracted','test',NULL,1,'finished','operator','bastion',21901,'machine/1','2026-11-27 11:52:30.026','2026-11-27 11:52:30.026','2026-11-27 11:52:30.039',NULL,'0.1.0','3','{\"scanned\": 3, \"changed\": 0, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 3, \"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('bc501ef4-4aa2-422e-b9d1-d90e4e7532d3','verify','legacy','test',NULL,1,'finished','operator','bastion',22088,'machine/1','2026-11-27 11:52:33.117','2026-11-27 11:52:33.117','2026-11-27 11:52:33.141',NULL,'0.1.0','3','{\"scanned\": 3, \"changed\": 0, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 3, \"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('ca89d8c0-c1c3-43e8-8639-e82b8d0e6e39','wrap','legacy','test',NULL,0,'finished','operator','bastion',21901,'machine/1','2026-11-27 11:52:29.820','2026-11-27 11:52:29.820','2026-11-27 11:52:29.830','env:fffa5b0c61bf86fb','0.1.0','3','{\"scanned\": 3, \"changed\": 3, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 0, \"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('cbfead69-6079-4bdc-a25e-027a96afbb64','verify','branched','test',NULL,1,'finished','operator','bastion',21901,'machine/1','2026-11-27 11:52:30.046','2026-11-27 11:52:30.046','2026-11-27 11:52:30.056',NULL,'0.1.0','3','{\"scanned\": 3, \"changed\": 0, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 3, \"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('dbcfe183-9d29-4cfc-a28c-a263469b5240','wrap','branched','test',NULL,0,'finished','operator','bastion',21901,'machine/1','2026-11-27 11:52:29.890','2026-11-27 11:52:29.890','2026-11-27 11:52:29.904','env:fffa5b0c61bf86fb','0.1.0','3','{\"scanned\": 3, \"changed\": 3, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 0, \"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('f418b779-d884-47f6-87e3-785be0e2353b','scrub','expanded','test',NULL,0,'finished','operator','bastion',22014,'machine/1','2026-11-27 11:52:30.693','2026-11-27 11:52:30.693','2026-11-27 11:52:30.708',NULL,'0.1.0','1','{\"scanned\": 1, \"changed\": 1, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 0, \"kms_calls\": {}}',NULL);
INSERT INTO `dekctl_runs` VALUES ('f75b51f4-dafd-4c17-9fae-60abc5571de6','verify','legacy','test',NULL,1,'finished','operator','bastion',21901,'machine/1','2026-11-27 11:52:29.974','2026-11-27 11:52:29.974','2026-11-27 11:52:29.998',NULL,'0.1.0','3','{\"scanned\": 3, \"changed\": 0, \"skipped\": 0, \"moved\": 0, \"quarantined\": 0, \"proved\": 3, \"kms_calls\": {}}',NULL);
CREATE TABLE `dekctl_tables` (
  `table_name` varchar(255) NOT NULL,
  `facts` text NOT NULL,
  PRIMARY KEY (`table_name`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `dekctl_tables` VALUES ('branched','{\"added\": [\"wrapped_key\", \"wrapped_key_version\", \"kek_id\"], \"columns\": {\"kek_column\": \"kek_id\", \"plaintext_column\": \"encryption_key\", \"version_column\": \"wrapped_key_version\", \"wrapped_column\": \"wrapped_key\"}, \"plaintext_after\": \"id\", \"plaintext_definition\": \"varbinary(32) NOT NULL\", \"plaintext_nullable\": false, \"plaintext_type\": \"VARBINARY(32)\"}');
INSERT INTO `dekctl_tables` VALUES ('contracted','{\"added\": [\"wrapped_key\", \"wrapped_key_version\", \"kek_id\"], \"columns\": {\"kek_column\": \"kek_id\", \"plaintext_column\": \"encryption_key\", \"version_column\": \"wrapped_key_version\", \"wrapped_column\": \"wrapped_key\"}, \"plaintext_after\": \"id\", \"plaintext_definition\": \"varbinary(32) NOT NULL\", \"plaintext_nullable\": false, \"plaintext_type\": \"VARBINARY(32)\"}');
INSERT INTO `dekctl_tables` VALUES ('expanded','{\"added\": [\"wrapped_key\", \"wrapped_key_version\", \"kek_id\"], \"columns\": {\"kek_column\": \"kek_id\", \"plaintext_column\": \"encryption_key\", \"version_column\": \"wrapped_key_version\", \"wrapped_column\": \"wrapped_key\"}, \"plaintext_after\": \"id\", \"plaintext_definition\": \"varbinary(32) NOT NULL\", \"plaintext_nullable\": false, \"plaintext_type\": \"VARBINARY(32)\"}');
CREATE TABLE `dekctl_version_branched` (
  `version_num` varchar(32) NOT NULL,
  PRIMARY KEY (`version_num`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `dekctl_version_branched` VALUES ('0002');
CREATE TABLE `dekctl_version_contracted` (
  `version_num` varchar(32) NOT NULL,
  PRIMARY KEY (`version_num`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `dekctl_version_contracted` VALUES ('0003');
CREATE TABLE `dekctl_version_expanded` (
  `version_num` varchar(32) NOT NULL,
  PRIMARY KEY (`version_num`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `dekctl_version_expanded` VALUES ('0002');
CREATE TABLE `dekctl_version_legacy` (
  `version_num` varchar(32) NOT NULL,
  PRIMARY KEY (`version_num`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `dekctl_version_legacy` VALUES ('0001');
CREATE TABLE `expanded` (
  `id` int(11) NOT NULL,
  `encryption_key` varbinary(32) DEFAULT NULL,
  `wrapped_key` varbinary(6144) DEFAULT NULL,
  `wrapped_key_version` varchar(10) DEFAULT NULL,
  `kek_id` varchar(255) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `expanded` VALUES (1,NULL,0x01FFFA5B0C61BF86FB8445960E388A8BBE7689C2F401EA6BAB946774CE295DA03F23853481778FDA7689BC3ED4EADCE5BE436A0E8E0BBD2AC3E365935B0C0DC57C05ED7E6D,'V2','env:fffa5b0c61bf86fb');
INSERT INTO `expanded` VALUES (2,0xA70C6ECB3BD75E190F8EF11A8CF3126CC626DE32474D29DCD5B733342B334970,0x01FFFA5B0C61BF86FB0330A29E90BB79156883A0875BACB94ECB445F646956142DFF9C5CC874481C2B54DC1F7F7CBDAE0DEC70E57F90D4A07DA0F51D63C302649651706C9A,'V2','env:fffa5b0c61bf86fb');
INSERT INTO `expanded` VALUES (3,0xC857C9C28ACA41922D9AEE3C5D2043906F5E1118A2138BDDBC2958868D426F60,0x01FFFA5B0C61BF86FB7D98DF6DD55F2106C285A35EF96AA8BE256EED3F8BD40898A03C1DE18A37795C95AB8A979FA0718AAE0D8E1FD4C95AC2A3DD9E9BF4FA66410626424D,'V2','env:fffa5b0c61bf86fb');
CREATE TABLE `legacy` (
  `id` int(11) NOT NULL,
  `encryption_key` varbinary(32) NOT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;
INSERT INTO `legacy` VALUES (1,0x933D916BD0636365FA329916C96CA3D2EB29C90425AF05CEDC25F9E0619ED5B2);
INSERT INTO `legacy` VALUES (2,0x04A24B88759FCC03D1A899C8AB549138D36B8C8F3BE996F24ED62A0FC692973E);
INSERT INTO `legacy` VALUES (3,0x4BB2C7FAFD0844CB67C119FC1BCD8790F9665C87776A7F5249EE491FB4D804F2);
